"""Multi-agent PPO: a centralised critic values the team while it trains; acting never uses it (Yu et al., 2022)."""

from typing import Literal

from torch import Tensor, nn

from algorithms.networks import Critic, PooledCritic
from algorithms.ppo import PPO, PPOConfig, Shapes

CriticSees = Literal["state", "pooled"]


class MAPPO(PPO):
    """V(state of the team), or V(observations of the team's threads, pooled); one value per team."""

    def __init__(
        self, shapes: Shapes, config: PPOConfig, seed: int, device: str = "cpu", critic_sees: CriticSees = "state"
    ) -> None:
        """Builds the networks. `critic_sees` "state" reads env.state, "pooled" mean and maximum over threads."""
        self.critic_sees: CriticSees = critic_sees
        self.agents_per_value = shapes.n_agents // shapes.n_teams
        super().__init__(shapes, config, seed, device)

    def _make_critic(self) -> nn.Module:
        shapes, config = self.shapes, self.config
        if self.critic_sees == "state":
            return Critic(shapes.n_state, config.critic_hidden, config.activation, config.normalise_observation)
        return PooledCritic(shapes.n_columns, config.critic_hidden, config.activation, config.normalise_observation)

    def _critic_source(self, observation: Tensor, state: Tensor) -> Tensor:
        if self.critic_sees == "state":
            return state.flatten(0, 1)  # (B F, S)
        return observation.reshape(-1, self.agents_per_value, observation.shape[-1])  # (B F, K, D)
