"""Behaviour cloning: the actor of PPO, taught by maximum likelihood to answer as recorded experts did."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.agreement import Tally, judge
from algorithms.blocks import actor_side, critic_side
from algorithms.log import Clock
from algorithms.losses import explained_variance
from algorithms.networks import Activation, Actor, Critic, Scale, ValueScale
from algorithms.offline import OfflineData, grid_of, legal_rows, pools, returns_to_go, sample_rows, shuffled, steps_of
from algorithms.policy import Policy


@dataclass(frozen=True, kw_only=True)
class BCConfig:
    """Maximum likelihood, one decision a row. The actor is PPO's, so that PPO can go on from it."""

    actor_hidden: tuple[int, ...] = (64, 64)
    """sizes of the actor's hidden layers"""
    critic_hidden: tuple[int, ...] = (64, 64)
    """sizes of the critic's hidden layers"""
    activation: Activation = "tanh"
    """after every hidden layer"""
    normalise_observation: bool = False
    """mean 0 and deviation 1 of every column over the training data; off where the env scales its features"""
    critic_sees: Literal["none", "state", "observation"] = "none"
    """also fit the critic that MAPPO ("state") or IPPO ("observation") starts with, to the experts' returns"""
    gamma: float = 0.99
    """discount of these returns, as of PPO"""
    epochs: int = 60
    """most passes over the training data"""
    patience: int = 8
    """passes without a better validation likelihood before training stops; the best weights are kept"""
    batch_size: int = 256
    """decisions of a gradient step"""
    lr: float = 1e-3
    """Adam's step at the start, of actor and critic"""
    lr_end: float = 0.05
    """share of it that is left after the last epoch; linear in between"""
    weight_decay: float = 0.0
    """decoupled, AdamW's (Loshchilov and Hutter, 2019)"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm"""
    blocked: bool = True
    """as PPOConfig.blocked"""

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"BCConfig.{name} must be at least 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Rows:
    """Decisions in memory as `blocks.PolicyRows`, each a world of its own."""

    observation: Tensor
    rows: Tensor
    legal: Tensor
    action: Tensor
    log_prob: Tensor


class BC:
    """The actor, the critic if there is one, and passes over the data. Each pass draws its order from (seed, epoch)."""

    def __init__(
        self, data: OfflineData, episodes: dict[str, np.ndarray], config: BCConfig, seed: int, device: str = "cpu"
    ) -> None:
        """Builds the networks and finds the rows; `episodes` are those of each split, see `offline.select`."""
        self.data, self.episodes, self.config, self.seed = data, episodes, config, seed
        self.device, self.critic_sees = torch.device(device), config.critic_sees
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Actor(
                data.observation.shape[-1],
                grid_of(data),
                config.actor_hidden,
                config.activation,
                config.normalise_observation,
            ).to(self.device)
            n_inputs = {"none": 0, "state": data.state.shape[-1], "observation": data.observation.shape[-1]}
            self.critic: Critic | None = None
            if config.critic_sees != "none":
                shape = n_inputs[config.critic_sees], config.critic_hidden, config.activation
                self.critic = Critic(*shape, config.normalise_observation).to(self.device)
        self.value_scale = ValueScale(0.0).to(self.device)
        parameters = [p for module in (self.actor, self.critic) if module is not None for p in module.parameters()]
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            parameters, config.lr, eps=1e-5, weight_decay=config.weight_decay, fused=True
        )
        self.clock = Clock(("read", "masks", "gradients", "optimiser"))
        """seconds inside `epoch`"""
        self._actor_side = actor_side(self.actor, config.blocked)
        found = {split: legal_rows(data, chosen) for split, chosen in episodes.items()}
        self.rows = {split: rows for split, (rows, _) in found.items()}
        """split -> int64 (n,), its legal decisions"""
        self.dropped = {split: dropped for split, (_, dropped) in found.items()}
        """split -> decisions that L1 forbids, which no masked policy can learn"""
        self._targets: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def epoch(self, number: int) -> dict[str, float]:
        """Passes over the training data for the `number`-th time, from 0, and returns what the log shows."""
        config = self.config
        left = 1 + (config.lr_end - 1) * number / max(1, config.epochs - 1)
        self.optimizer.param_groups[0]["lr"] = config.lr * left
        self.clock.start()
        self._fit_scales()
        steps = [list(row) for row in self._learn_policy(np.random.default_rng([self.seed, number, 0]))]
        metrics = {"policy/lr": config.lr * left, "loss/policy": _mean(steps, 0), "policy/entropy": _mean(steps, 1)}
        metrics["policy/grad_norm"] = _mean(steps, 2)
        if self.critic is not None:
            steps = [list(row) for row in self._learn_values(np.random.default_rng([self.seed, number, 1]))]
            metrics |= {"loss/value": _mean(steps, 0), "value/grad_norm": _mean(steps, 1)}
        return metrics

    def judge(self, split: str, most: int | None = None) -> Tally:
        """Returns how well the policy foretells the decisions of a split, or at most `most` of them."""
        return judge(self.actor, self.data, sample_rows(self.rows[split], most))

    @torch.no_grad()
    def judge_values(self, split: str, most: int | None = None) -> dict[str, float]:
        """Returns value/explained_variance of the critic on the discounted returns of a split, {} without a critic."""
        if self.critic is None:
            return {}
        chosen = sample_rows(np.arange(len(self._value_rows(split)[0])), most)
        rows, target = (array[chosen] for array in self._value_rows(split))
        value = torch.cat([self.critic(self._source(part)) for part in np.array_split(rows, -(-len(rows) // 8192))])
        return {
            "value/explained_variance": explained_variance(self.value_scale.restore(value).cpu(), as_tensor(target))
        }

    def policy(self) -> Policy:
        """Returns the present actor as a policy."""
        return Policy(self.actor, self.data.observation_names, {})

    def modules(self) -> dict[str, nn.Module]:
        """Returns every module that a checkpoint holds, by name."""
        found: dict[str, nn.Module] = {"actor": self.actor}
        return found if self.critic is None else found | {"critic": self.critic, "value_scale": self.value_scale}

    def generators(self) -> dict[str, torch.Generator]:
        """Returns nothing: chance comes from seed and epoch."""
        return {}

    def _learn_policy(self, rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
        """One pass; yields loss, entropy and gradient norm of each step."""
        config = self.config
        for pool in pools(self.data, self.rows["train"], rng):
            n = len(pool.rows)
            observation, bounds, action = (x.to(self.device) for x in (pool.observation, pool.bounds, pool.action))
            self.clock.lap("read")
            legal = self._actor_side.legal(bounds, action)
            every, ones = torch.arange(n, device=self.device), torch.ones(n, device=self.device)
            rows = Rows(observation[:, None], every, legal, action, ones)
            self.clock.lap("masks")
            for i in every.tensor_split(-(-n // config.batch_size)):
                loss, disorder, _, _ = self._actor_side.backward(rows, i, ones, None, 0.0).tolist()
                if self.critic is not None:
                    self.critic.zero_grad()
                yield loss, disorder, self._step(self.actor)

    def _learn_values(self, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
        """One pass over what the critic reads; yields loss and gradient norm of each step."""
        assert self.critic is not None
        side = critic_side(self.critic, self.config.blocked)
        rows, target = self._value_rows("train")
        if not self.value_scale.weight:
            self.value_scale.update(as_tensor(target))
        for chosen, order in shuffled(np.arange(len(rows)), rng):
            source = self._source(rows[chosen])
            goal = self.value_scale.normalise(as_tensor(target[chosen])).float().to(self.device)
            self.clock.lap("read")
            for j in torch.from_numpy(order).to(self.device).tensor_split(-(-len(order) // self.config.batch_size)):
                loss = side.backward(source, j, goal[j], goal[j], None)
                self.actor.zero_grad()
                yield float(loss), self._step(self.critic)

    def _step(self, module: nn.Module) -> float:
        self.clock.lap("gradients")
        norm = float(nn.utils.clip_grad_norm_(module.parameters(), self.config.max_grad_norm, foreach=True))
        self.optimizer.step()
        self.clock.lap("optimiser")
        return norm

    def _value_rows(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows int64 (n,) that the critic reads, steps or decisions, and the returns that follow them."""
        if split not in self._targets:
            steps, target = returns_to_go(self.data, self.episodes[split], self.config.gamma)
            if self.critic_sees == "observation":
                rows = self.rows[split]
                steps, target = rows, target[np.searchsorted(steps, steps_of(self.data, rows))]
            self._targets[split] = steps, target
        return self._targets[split]

    def _source(self, rows: np.ndarray) -> Tensor:
        array = self.data.state if self.critic_sees == "state" else self.data.observation
        return torch.from_numpy(np.asarray(array[rows], np.float32)).to(self.device)

    def _fit_scales(self) -> None:
        """Takes the training data into the statistics of the columns, once."""
        if isinstance(self.actor.scale, Scale) and not self.actor.scale.count:
            for pool in pools(self.data, self.rows["train"], None):
                self.actor.scale.update(pool.observation.to(self.device))
        if self.critic is not None and isinstance(self.critic.scale, Scale) and not self.critic.scale.count:
            for chosen, _ in shuffled(self._value_rows("train")[0], None):
                self.critic.scale.update(self._source(chosen))
        self.clock.lap("read")


def as_tensor(array: np.ndarray) -> Tensor:
    """Returns a tensor of float32."""
    return torch.from_numpy(np.asarray(array, np.float32))


def _mean(rows: list[list[float]], column: int) -> float:
    return float(np.mean([row[column] for row in rows]))
