"""Proximal policy optimisation over the decisions of many agents. IPPO and MAPPO say what the critic sees, no more."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.buffer import RolloutBuffer
from algorithms.interface import ActionGrid, VectorEnv
from algorithms.losses import clipped_objective, explained_variance, squared_error
from algorithms.networks import Activation, Actor, Scale, ValueScale
from algorithms.returns import gae


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """PPO with the details that matter (Huang et al., 2022; Yu et al., 2022). Actor and critic share no layer."""

    actor_hidden: tuple[int, ...] = (64, 64)
    """sizes of the actor's hidden layers"""
    critic_hidden: tuple[int, ...] = (64, 64)
    """sizes of the critic's hidden layers"""
    activation: Activation = "tanh"
    """after every hidden layer"""
    gamma: float = 0.99
    """discount for one unit of the time that the env says has elapsed (SCML: a day; other envs: a step)"""
    gae_lambda: float = 0.95
    """trace decay, once per decision"""
    clip: float = 0.2
    """probability ratios beyond 1 +- clip earn nothing more"""
    value_clip: float | None = None
    """values may move this far from their old ones, in normalised units; None for no limit"""
    epochs: int = 4
    """passes over a rollout"""
    minibatches: int = 4
    """gradient steps of a pass"""
    lr: float = 7e-4
    """Adam's step for the actor at the start"""
    critic_lr: float = 7e-4
    """Adam's step for the critic at the start"""
    lr_end: float = 0.1
    """share of both steps that is left at the end of training; linear in between, 1 for constant"""
    entropy: float = 0.01
    """weight of the entropy bonus at the start"""
    entropy_end: float = 0.01
    """weight of the entropy bonus at the end; linear in between"""
    max_grad_norm: float = 0.5
    """gradients of the actor, and of the critic, are scaled down to this norm"""
    target_kl: float | None = None
    """stop the epochs once the policy has moved this far, in nats, on average over an epoch; None for never"""
    normalise_advantage: bool = True
    """mean 0 and deviation 1 over all decisions of the rollout"""
    normalise_value: bool = True
    """the critic learns targets of mean 0 and deviation 1 (running)"""
    value_decay: float = 0.5
    """how much of the running moments of the targets survives a rollout; see networks.ValueScale before raising it"""
    normalise_observation: bool = False
    """running mean and deviation of observations and state; off where the env scales its features"""

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"PPOConfig.{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("gamma", "gae_lambda", "value_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"PPOConfig.{name} must lie in [0, 1], got {getattr(self, name)}.")


@dataclass(frozen=True)
class Shapes:
    """The sizes that networks are built from."""

    n_agents: int
    n_teams: int
    n_columns: int
    n_state: int
    grid: ActionGrid

    @classmethod
    def of(cls, env: VectorEnv) -> "Shapes":
        """Reads them off an environment."""
        return cls(env.n_agents, env.n_teams, env.observation.shape[-1], env.state.shape[-1], env.action_grid)


@dataclass(frozen=True)
class Batch:
    """The decisions of a rollout as flat rows on the learner's device: R decisions of agents, U valued units.

    Attributes:
        rows: int64 (R,), flat indices into (T, E, N). legal: bool (R, C), masks. action: int64 (R,).
        log_prob: (R,) when chosen. advantage: (R,).
        units: int64 (U,), flat indices into (T, E, units). value, target: (U,), in units of reward.
    """

    rows: Tensor
    legal: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    units: Tensor
    value: Tensor
    target: Tensor


class PPO(ABC):
    """One shared actor, one critic, and the update of both from a rollout.

    A critic values units: single agents (IPPO) or whole teams (MAPPO). Subclasses set `agents_per_value`, the K agents
    that share one value, build `critic`, and say what a unit's input is. A team is valued once, not once per agent;
    its target is the mean over its agents that decide.
    """

    agents_per_value: int

    def __init__(self, shapes: Shapes, config: PPOConfig, seed: int, device: str = "cpu") -> None:
        """Builds the networks; `seed` fixes their weights and every draw."""
        self.shapes, self.config, self.device = shapes, config, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Actor(
                shapes.n_columns,
                shapes.grid,
                config.actor_hidden,
                config.activation,
                config.normalise_observation,
            ).to(self.device)
            self.critic = self._make_critic().to(self.device)
        self.value_scale = ValueScale(config.value_decay if config.normalise_value else None).to(self.device)
        groups = [
            {"params": list(self.actor.parameters()), "lr": config.lr},
            {"params": list(self.critic.parameters()), "lr": config.critic_lr},
        ]
        self.optimizer = torch.optim.Adam(groups, eps=1e-5, fused=True)
        self.sampler = torch.Generator(self.device).manual_seed(seed)
        self.shuffler = torch.Generator().manual_seed(seed)

    @abstractmethod
    def _make_critic(self) -> nn.Module:
        """Returns a module from `_critic_input` to (n,)."""

    @abstractmethod
    def _critic_input(self, observation: Tensor, state: Tensor, units: Tensor) -> Tensor:
        """Returns the critic's input for the given units.

        Args:
            observation: (B, N, D).
            state: (B, F, S).
            units: int64 (n,), flat indices of (B, N / agents_per_value).
        """

    @torch.inference_mode()
    def act(self, env: VectorEnv, greedy: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns (action int64, log p float32), both (E, N); the network sees only the rows of active agents."""
        action, log_prob = np.zeros(env.active.shape, np.int64), np.zeros(env.active.shape, np.float32)
        if env.active.any():
            observation, bounds = (
                torch.from_numpy(a[env.active]).to(self.device) for a in (env.observation, env.bounds)
            )
            chosen, chosen_log_prob = self.actor.sample(observation, bounds, self._uniform, greedy)
            action[env.active], log_prob[env.active] = chosen.cpu().numpy(), chosen_log_prob.cpu().numpy()
        return action, log_prob

    def update(self, buffer: RolloutBuffer, progress: float) -> dict[str, float]:
        """Learns from one rollout; `progress` in [0, 1] places it on the schedules. Returns what the log shows."""
        config = self.config
        rows = torch.from_numpy(np.flatnonzero(buffer.active)).to(self.device)
        if not len(rows):
            raise RuntimeError("No agent was active in the whole rollout; nothing to learn from. Raise n_steps.")
        observation, state = self._device(buffer.observation), self._device(buffer.state)
        observation, state = observation.flatten(0, 1), state.flatten(0, 1)  # (T E, N, D), (T E, F, S)
        k = self.agents_per_value
        unit_active = buffer.active.reshape(*buffer.active.shape[:2], -1, k)  # (T, E, units, K)
        units = torch.from_numpy(np.flatnonzero(unit_active.any(-1))).to(self.device)

        value = np.zeros(unit_active.shape[:3], np.float32)
        value[unit_active.any(-1)] = self._values(observation, state, units)
        trajectory = buffer.trajectory(value.repeat(k, axis=-1), *self._closing_values(buffer))
        advantage = gae(trajectory, config.gamma, config.gae_lambda)
        target = (advantage + trajectory.value).reshape(unit_active.shape).sum(-1, where=unit_active)
        target /= np.maximum(unit_active.sum(-1), 1)
        batch = self._batch(buffer, rows, units, advantage, value, target)
        self.value_scale.update(batch.target)
        metrics = self._learn(observation, state, batch, progress)
        metrics["value/explained_variance"] = explained_variance(batch.value, batch.target)
        metrics["value/mean"] = float(batch.value.mean())
        if config.normalise_observation:
            self._update_scales(observation, state, batch)
        return metrics

    def modules(self) -> dict[str, nn.Module]:
        """Returns every module that a checkpoint holds, by name."""
        return {"actor": self.actor, "critic": self.critic, "value_scale": self.value_scale}

    def _uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.sampler, device=self.device)

    def _device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    @torch.no_grad()
    def _values(self, observation: Tensor, state: Tensor, units: Tensor, chunk: int = 65536) -> np.ndarray:
        """Returns V in units of reward, float32 (n,), of the given units."""
        parts = [self.critic(self._critic_input(observation, state, part)) for part in units.split(chunk)]
        return self.value_scale.restore(torch.cat(parts)).float().cpu().numpy()

    def _all_values(self, observation: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Returns V of every agent: (B, N) from (B, N, D) and (B, F, S)."""
        n_units = observation.shape[0] * observation.shape[1] // self.agents_per_value
        units = torch.arange(n_units, device=self.device)
        value = self._values(self._device(observation), self._device(state), units)
        return value.reshape(len(observation), -1).repeat(self.agents_per_value, axis=-1)

    def _closing_values(self, buffer: RolloutBuffer) -> tuple[np.ndarray, np.ndarray]:
        """Returns V of the last views of truncated episodes (T, E, N), and V after the last step (E, N)."""
        final = np.zeros(buffer.active.shape, np.float32)
        if buffer.cuts:
            steps, worlds, observations, states = zip(*buffer.cuts, strict=True)
            final[list(steps), list(worlds)] = self._all_values(np.stack(observations), np.stack(states))
        return final, self._all_values(buffer.last_observation, buffer.last_state)

    def _batch(
        self,
        buffer: RolloutBuffer,
        rows: Tensor,
        units: Tensor,
        advantage: np.ndarray,
        value: np.ndarray,
        target: np.ndarray,
    ) -> Batch:
        flat = [self._device(a).flatten(0, 2)[rows] for a in (buffer.bounds, buffer.action, buffer.log_prob, advantage)]
        bounds, action, log_prob, gain = flat
        legal = torch.cat(
            [self.actor.head.legal(b, a) for b, a in zip(bounds.split(65536), action.split(65536), strict=True)]
        )
        if self.config.normalise_advantage and len(gain) > 1:
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        unit_value, unit_target = (self._device(a).flatten()[units] for a in (value, target))
        return Batch(rows, legal, action, log_prob, gain, units, unit_value, unit_target)

    def _learn(self, observation: Tensor, state: Tensor, batch: Batch, progress: float) -> dict[str, float]:
        config = self.config
        left = 1 + (config.lr_end - 1) * progress
        bonus = config.entropy + (config.entropy_end - config.entropy) * progress
        for group, lr in zip(self.optimizer.param_groups, (config.lr, config.critic_lr), strict=True):
            group["lr"] = lr * left
        flat_observation = observation.flatten(0, 1)
        old_value, target = self.value_scale.normalise(batch.value), self.value_scale.normalise(batch.target)
        seen: list[list[Tensor]] = []
        epochs = 0
        for _ in range(config.epochs):
            shuffled_rows, shuffled_units = self._shuffle(len(batch.rows)), self._shuffle(len(batch.units))
            for i, j in zip(shuffled_rows, shuffled_units, strict=True):
                if not len(i) or not len(j):
                    continue
                log_prob, entropy = self.actor.evaluate(
                    flat_observation[batch.rows[i]], batch.legal[i], batch.action[i]
                )
                policy_loss, kl, clipped = clipped_objective(
                    log_prob, batch.log_prob[i], batch.advantage[i], config.clip
                )
                value = self.critic(self._critic_input(observation, state, batch.units[j]))
                value_loss = squared_error(value, old_value[j].float(), target[j].float(), config.value_clip)
                self.optimizer.zero_grad()
                (policy_loss - bonus * entropy.mean() + value_loss).backward()
                norms = [
                    nn.utils.clip_grad_norm_(module.parameters(), config.max_grad_norm, foreach=True)
                    for module in (self.actor, self.critic)
                ]
                self.optimizer.step()
                seen.append([policy_loss.detach(), value_loss.detach(), entropy.detach().mean(), kl, clipped, *norms])
            epochs += 1
            if config.target_kl is not None:
                last = torch.stack([step[3] for step in seen[-config.minibatches :]])
                if float(last.mean()) > config.target_kl:
                    break
        names = ["loss/policy", "loss/value", "policy/entropy", "policy/kl", "policy/clip_fraction"]
        names += ["policy/grad_norm", "value/grad_norm"]
        means = torch.stack([torch.stack(step) for step in seen]).mean(0).tolist()
        return dict(zip(names, means, strict=True)) | {
            "policy/first_kl": float(seen[0][3]),
            "policy/epochs": float(epochs),
            "policy/lr": config.lr * left,
            "policy/entropy_weight": bonus,
        }

    def _shuffle(self, n: int) -> tuple[Tensor, ...]:
        order = torch.randperm(n, generator=self.shuffler).to(self.device)
        return order.tensor_split(self.config.minibatches)

    def _update_scales(self, observation: Tensor, state: Tensor, batch: Batch) -> None:
        """Takes the rollout into the running statistics; after learning, so that they were constant meanwhile."""
        for scale, columns in (
            (self.actor.scale, observation.flatten(0, 1)[batch.rows]),
            (self.critic.scale, self._critic_input(observation, state, batch.units)),
        ):
            if isinstance(scale, Scale):
                scale.update(columns)
