"""Independent PPO: every agent is valued by what it sees itself (de Witt et al., 2020)."""

from torch import Tensor, nn

from algorithms.networks import Critic
from algorithms.ppo import PPO


class IPPO(PPO):
    """V(own observation), one value per agent."""

    agents_per_value = 1
    critic_sees = "observation"

    def _make_critic(self) -> nn.Module:
        config = self.config
        return Critic(self.shapes.n_columns, config.critic_hidden, config.activation, config.normalise_observation)

    def _critic_source(self, observation: Tensor, state: Tensor) -> Tensor:
        return observation.flatten(0, 1)  # (B N, D)
