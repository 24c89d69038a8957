"""Proximal policy optimisation over the decisions of many agents. IPPO and MAPPO say what the critic sees, no more."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.blocks import BLOCK, CHUNK, actor_side, critic_side
from algorithms.buffer import RolloutBuffer
from algorithms.dense import padded
from algorithms.interface import ActionGrid, VectorEnv
from algorithms.log import LEARN_PHASES, Clock
from algorithms.losses import explained_variance
from algorithms.networks import Actor, Scale, ValueScale
from algorithms.ppo_config import PPOConfig
from algorithms.returns import gae, unit_targets

STEP_METRICS = (
    "loss/policy",
    "policy/entropy",
    "policy/kl",
    "policy/clip_fraction",
    "loss/value",
    "policy/grad_norm",
    "value/grad_norm",
)
KL = STEP_METRICS.index("policy/kl")


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
        """Reads them off an environment; the teams are those that it shows."""
        return cls(env.n_agents, env.state.shape[1], env.observation.shape[-1], env.state.shape[-1], env.action_grid)


@dataclass(frozen=True)
class Decisions:
    """A rollout as flat rows on the learner's device: R decisions of agents, U valued units that decide.

    Attributes:
        observation: (T E, N, D).
        source: (T E units, ...), what the critic reads.
        rows: int64 (R,), flat indices into (T, E, N).
        legal: (R, C), masks as the actor's gradient reads them.  action: int64 (R,).  log_prob: (R,), when chosen.
        units: int64 (U,), flat indices into (T, E, units).
    """

    observation: Tensor
    source: Tensor
    rows: Tensor
    legal: Tensor
    action: Tensor
    log_prob: Tensor
    units: Tensor


@dataclass(frozen=True)
class Estimate:
    """What the present critic makes of a rollout: advantage (R,), value and target (U,), in units of reward."""

    advantage: Tensor
    value: Tensor
    target: Tensor


class PPO(ABC):
    """One shared actor, one critic, and the update of both from a rollout.

    A critic values units: single agents (IPPO) or whole teams (MAPPO). Subclasses set `agents_per_value`, the K agents
    that share one value, build `critic`, and say what it reads of each unit (`critic_sees`). A team is valued once, not
    once per agent; its target is the mean over its agents that decide.

    Where training starts from another policy pi0 (`start_from`), a divergence from it may be penalised with weight b:
    with d = log pi(a) - log pi0(a) of the decisions taken, and advantages A of mean 0 and deviation 1,

        A' = A - b (d - mean d)        E_pi[d grad log pi(a)] = grad KL(pi | pi0)

    so that the policy gradient of A' is that of the return less b times the divergence of a decision. pi is the policy
    of each epoch's start; the mean is a baseline, which changes no expectation.
    """

    agents_per_value: int
    critic_sees: str

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
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, eps=1e-5, fused=True)
        self._actor_side = actor_side(self.actor, config.blocked)
        self._critic_side = critic_side(self.critic, config.blocked)
        self.reference: Actor | None = None
        """the policy that training started from, frozen; None if it started from nothing"""
        self.clock = Clock(LEARN_PHASES)
        """seconds inside `update`"""
        self.sampler = torch.Generator(self.device).manual_seed(seed)
        self.shuffler = torch.Generator().manual_seed(seed)

    @abstractmethod
    def _make_critic(self) -> nn.Module:
        """Returns a module from rows of `_critic_source` to (n,)."""

    @abstractmethod
    def _critic_source(self, observation: Tensor, state: Tensor) -> Tensor:
        """Returns what the critic reads, one row a unit: (B units, ...) from (B, N, D) and (B, F, S), a view."""

    @torch.inference_mode()
    def act(self, env: VectorEnv, greedy: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns (action int64, log p float32), both (E, N); the network sees only the rows of active agents."""
        action, log_prob = np.zeros(env.active.shape, np.int64), np.zeros(env.active.shape, np.float32)
        rows = np.flatnonzero(env.active)
        if len(rows):
            index = torch.from_numpy(rows), padded(rows)
            bounds, observation = (
                torch.from_numpy(array).flatten(0, 1).index_select(0, some).to(self.device)
                for array, some in zip((env.bounds, env.observation), index, strict=True)
            )
            chosen, chosen_log_prob = self.actor.sample(observation, bounds, self._uniform, greedy)
            action.reshape(-1)[rows] = chosen.cpu().numpy()
            log_prob.reshape(-1)[rows] = chosen_log_prob.cpu().numpy()
        return action, log_prob

    def keep_reference(self) -> None:
        """Makes a frozen copy of the actor the policy that training starts from; the actor's weights come before."""
        self.reference = copy.deepcopy(self.actor).requires_grad_(False)
        self._reference_side = actor_side(self.reference, self.config.blocked)

    def update(self, buffer: RolloutBuffer, progress: float, only_critic: bool = False) -> dict[str, float]:
        """Learns from one rollout and returns what the log shows.

        Args:
            buffer: the rollout.
            progress: in [0, 1], places it on the schedules.
            only_critic: leave the actor as it is.
        """
        config = self.config
        if not buffer.active.any():
            raise RuntimeError("No agent was active in the whole rollout; nothing to learn from. Raise n_steps.")
        left = 1 + (config.lr_end - 1) * progress
        bonus = config.entropy + (config.entropy_end - config.entropy) * progress
        pull = config.init_kl + (config.init_kl_end - config.init_kl) * progress
        for group, lr in zip(self.optimizer.param_groups, (config.lr, config.critic_lr), strict=True):
            group["lr"] = lr * left
        self.clock.start()
        decisions = self._decisions(buffer)
        self.clock.lap("masks")
        first = estimate = self._estimate(buffer, decisions)
        reference = None if self.reference is None else self._reference_side.log_prob(decisions)
        steps: list[Tensor] = []
        epochs = 0
        while epochs < config.epochs:
            if epochs and config.recompute_advantage:
                estimate = self._estimate(buffer, decisions)
            self.value_scale.update(estimate.target)
            advantage = estimate.advantage
            if reference is not None and pull:
                log_prob = self._actor_side.log_prob(decisions) if epochs else decisions.log_prob
                advantage = advantage - pull * centred(log_prob - reference)
            self.clock.lap("values")
            last = self._epoch(decisions, estimate, advantage, first.value, None if only_critic else bonus)
            steps += last
            epochs += 1
            if config.target_kl is not None and float(torch.stack(last)[:, KL].mean()) > config.target_kl:
                break
        if config.normalise_observation:
            self._update_scales(decisions, only_critic)
        metrics = dict(zip(STEP_METRICS, torch.stack(steps).mean(0).tolist(), strict=True))
        metrics["policy/first_kl"] = float(steps[0][KL])
        if only_critic:
            metrics = {name: metrics[name] for name in ("loss/value", "value/grad_norm")}
        if reference is not None:
            metrics["policy/kl_to_init"] = float((decisions.log_prob - reference).mean())
        return metrics | {
            "policy/epochs": float(epochs),
            "policy/lr": config.lr * left,
            "policy/entropy_weight": bonus,
            "value/explained_variance": explained_variance(first.value, first.target),
            "value/mean": float(first.value.mean()),
        }

    def modules(self) -> dict[str, nn.Module]:
        """Returns every module that a checkpoint holds, by name."""
        found: dict[str, nn.Module] = {"actor": self.actor, "critic": self.critic, "value_scale": self.value_scale}
        return found if self.reference is None else found | {"reference": self.reference}

    def generators(self) -> dict[str, torch.Generator]:
        """Returns the sources of chance that a checkpoint holds, by name."""
        return {"sampler": self.sampler, "shuffler": self.shuffler}

    def _uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.sampler, device=self.device)

    def _device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    @torch.no_grad()
    def _values(self, source: Tensor, units: Tensor) -> np.ndarray:
        """Returns V in units of reward, float32 (n,), of the given units."""
        every = len(units) == len(source)  # then rows need no gathering
        blocks = source.split(BLOCK) if every else (source.index_select(0, part) for part in units.split(BLOCK))
        return self.value_scale.restore(torch.cat([self.critic(block) for block in blocks])).float().cpu().numpy()

    def _all_values(self, observation: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Returns V of every agent: (B, N) from (B, N, D) and (B, F, S)."""
        source = self._critic_source(self._device(observation), self._device(state))
        value = self._values(source, torch.arange(len(source), device=self.device))
        return value.reshape(len(observation), -1).repeat(self.agents_per_value, axis=-1)

    def _closing_values(self, buffer: RolloutBuffer) -> tuple[np.ndarray, np.ndarray]:
        """Returns V of the last views of truncated episodes (T, E, all agents), and V after the last step."""
        final = np.zeros((buffer.n_steps, *buffer.last_observation.shape[:2]), np.float32)
        if buffer.cuts:
            steps, worlds, observations, states = zip(*buffer.cuts, strict=True)
            final[list(steps), list(worlds)] = self._all_values(np.stack(observations), np.stack(states))
        return final, self._all_values(buffer.last_observation, buffer.last_state)

    def _decisions(self, buffer: RolloutBuffer) -> Decisions:
        rows, units = (
            torch.from_numpy(np.flatnonzero(active)).to(self.device)
            for active in (buffer.active, self._by_unit(buffer.active).any(-1))
        )
        bounds, action, log_prob = (
            self._device(array).flatten(0, 2) for array in (buffer.bounds, buffer.action, buffer.log_prob)
        )
        action, log_prob = action[rows], log_prob[rows]
        chunks = zip(rows.split(CHUNK), action.split(CHUNK), strict=True)
        legal = torch.cat([self._actor_side.legal(bounds[part], chosen) for part, chosen in chunks])
        observation, state = (self._device(array).flatten(0, 1) for array in (buffer.observation, buffer.state))
        source = self._critic_source(observation, state)
        return Decisions(observation, source, rows, legal, action, log_prob, units)

    def _estimate(self, buffer: RolloutBuffer, decisions: Decisions) -> Estimate:
        config, n_units = self.config, self.shapes.n_agents // self.agents_per_value
        unit_value = self._values(decisions.source, decisions.units)
        value = np.zeros((*buffer.active.shape[:2], n_units), np.float32)
        value.reshape(-1)[decisions.units.cpu().numpy()] = unit_value
        trajectory = buffer.trajectory(value.repeat(self.agents_per_value, axis=-1), *self._closing_values(buffer))
        advantage = gae(trajectory, config.gamma, config.gae_lambda)
        target = unit_targets(advantage, trajectory.value, buffer.active, self.agents_per_value)
        gain = self._device(advantage).flatten()[decisions.rows]
        if config.normalise_advantage and len(gain) > 1:
            gain = centred(gain) / (gain.std() + 1e-8)
        return Estimate(gain, self._device(unit_value), self._device(target).flatten()[decisions.units])

    def _epoch(
        self, decisions: Decisions, estimate: Estimate, advantage: Tensor, old_value: Tensor, bonus: float | None
    ) -> list[Tensor]:
        """Passes over the rollout once and returns the numbers of `STEP_METRICS` of each gradient step.

        Without a bonus only the critic learns, and the actor's numbers are 0.
        """
        config, steps = self.config, []
        old_value, target = (self.value_scale.normalise(x).float() for x in (old_value, estimate.target))
        shuffled = zip(self._shuffle(len(decisions.rows)), self._shuffle(len(decisions.units)), strict=True)
        for i, j in shuffled:
            if not len(i) or not len(j):
                continue
            if bonus is None:
                self.actor.zero_grad()
                numbers = torch.zeros(4, device=self.device)
            else:
                numbers = self._actor_side.backward(decisions, i, advantage, config.clip, bonus)
            value_loss = self._critic_side.backward(
                decisions.source, decisions.units[j], old_value[j], target[j], config.value_clip
            )
            self.clock.lap("gradients")
            norms = [
                nn.utils.clip_grad_norm_(module.parameters(), config.max_grad_norm, foreach=True)
                for module in (self.actor, self.critic)
            ]
            self.optimizer.step()
            steps.append(torch.cat([numbers, torch.stack([value_loss, *norms])]))
            self.clock.lap("optimiser")
        return steps

    def _by_unit(self, array: np.ndarray) -> np.ndarray:
        """Returns (T, E, units, K) from (T, E, N)."""
        return array.reshape(*array.shape[:2], -1, self.agents_per_value)

    def _shuffle(self, n: int) -> list[Tensor]:
        """Deals 0 .. n-1 to minibatches, each in ascending order, so that memory is read in its own."""
        dealt = torch.randperm(n, generator=self.shuffler).tensor_split(self.config.minibatches)
        return [self._device(np.sort(part.numpy())) for part in dealt]

    def _update_scales(self, decisions: Decisions, only_critic: bool) -> None:
        """Takes the rollout into the running statistics; after learning, so that they were constant meanwhile."""
        if isinstance(self.critic.scale, Scale):
            self.critic.scale.update(decisions.source[decisions.units])
        if isinstance(self.actor.scale, Scale) and not only_critic:
            self.actor.scale.update(decisions.observation.flatten(0, 1)[decisions.rows])


def centred(values: Tensor) -> Tensor:
    """Returns the values less their mean."""
    return values - values.mean()
