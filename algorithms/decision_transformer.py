"""Decision Transformer: learns what was done, given what was seen and what was still earned (Chen et al., 2021).

    maximise  mean over decisions of  log p(a_t | R_t, o_t, and up to `context` earlier steps in each layer)

R_t is the return-to-go. In play it is set to a target and lowered by every reward, which asks the network for the
decisions that were followed by such returns. Heads and masks are those of the other policies, in training and in play:
operation, lead time, price, quantity, each given those before it.
"""

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.agreement import Tally
from algorithms.log import Clock
from algorithms.networks import Scale
from algorithms.offline import OfflineData, grid_of, returns_to_go
from algorithms.recollection import DecisionTransformerPolicy, Targets
from algorithms.stream_actor import StreamActor, StreamConfig
from algorithms.streams import Batch, Streams

LEVELS = ("broadcast_first_level", "broadcast_middle_level", "broadcast_last_level")


@dataclass(frozen=True, kw_only=True)
class DTConfig(StreamConfig):
    """How a Decision Transformer is trained, beside what it is."""

    epochs: int = 15
    """most passes over the training data"""
    patience: int = 3
    """passes without a better validation likelihood before training stops; the best weights are kept"""
    length: int = 48
    """steps of a stretch that is learnt from; its first ones have less to look back on than in play"""
    batch: int = 48
    """stretches of a gradient step"""
    lr: float = 1e-3
    """AdamW's step, after the warm-up"""
    lr_end: float = 0.05
    """share of it that is left after the last pass; half a cosine in between"""
    warmup: int = 200
    """gradient steps over which it rises from 0"""
    weight_decay: float = 1e-2
    """of AdamW, for matrices"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm"""
    target_quantile: float = 0.9
    """what the policy aims at if nothing else is said: this quantile of the returns of training episodes of its kind"""
    kinds: tuple[str, ...] = LEVELS
    """columns of the observation that tell kinds of factories apart, each with targets of its own"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "patience", "length", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"DTConfig.{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.target_quantile <= 1:
            raise ValueError(f"DTConfig.target_quantile lies in [0, 1], got {self.target_quantile}.")


class DecisionTransformer:
    """The network, what it learns from, and passes over it. Each pass draws its order from (seed, epoch)."""

    def __init__(
        self, data: OfflineData, episodes: dict[str, np.ndarray], config: DTConfig, seed: int, device: str = "cpu"
    ) -> None:
        """Builds the network and sorts the streams; `episodes` are those of each split, see `offline.select`."""
        self.data, self.episodes, self.config, self.seed = data, episodes, config, seed
        self.device, self.critic_sees = torch.device(device), "none"
        self.streams = {split: Streams(data, chosen, config) for split, chosen in episodes.items()}
        """split -> its streams"""
        legal = {split: np.asarray(data.legal)[streams.rows] for split, streams in self.streams.items()}
        self.rows = {split: np.sort(self.streams[split].rows[kept]) for split, kept in legal.items()}
        """split -> int64 (n,), its legal decisions"""
        self.dropped = {split: int((~kept).sum()) for split, kept in legal.items()}
        """split -> decisions that L1 forbids: they stay in the streams, but no masked policy can learn them"""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = StreamActor(data.observation.shape[-1], grid_of(data), config).to(self.device)
        self.targets = Targets(config.kinds)
        self._fit_scales()
        groups = [
            {"params": [p for p in self.actor.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in self.actor.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, config.lr, betas=(0.9, 0.95), fused=True)
        self.clock = Clock(("read", "masks", "gradients", "optimiser"))
        """seconds inside `epoch`"""

    def epoch(self, number: int) -> dict[str, float]:
        """Passes over the training data for the `number`-th time, from 0, and returns what the log shows."""
        config, rng, streams = self.config, np.random.default_rng([self.seed, number]), self.streams["train"]
        stretches = streams.stretches(config.length, rng=rng)
        stretches = stretches[rng.permutation(len(stretches))]
        n_steps = -(-len(stretches) // config.batch)
        steps = []
        self.actor.train()
        self.clock.start()
        for i, batch in enumerate(streams.batches(stretches, config.batch)):
            self.clock.lap("read")
            lr = self._schedule(number * n_steps + i, config.epochs * n_steps)
            if batch.counted.any():
                steps.append(self._learn(batch, lr))
        self.actor.eval()
        means = torch.tensor(steps, dtype=torch.float64).mean(0).tolist()
        return dict(zip(("loss/policy", "policy/entropy", "policy/grad_norm"), means, strict=True)) | {"policy/lr": lr}

    @torch.no_grad()
    def judge(self, split: str, most: int | None = None) -> Tally:
        """Returns how well the policy foretells the decisions of a split, or about `most` of them.

        Each is foretold as in play: from all that the network can look back on.
        """
        head, tally = self.actor.head, Tally(self.actor.head.names)
        for batch in self._judged(split, most):
            features, bounds, action = self._features(batch)
            factors = head.factors(features, head.legal(bounds, action), action)
            tally.add(factors, action, *head.sample(features, bounds, torch.rand, True))
        return tally

    def judge_values(self, split: str, most: int | None = None) -> dict[str, float]:
        """Returns nothing: there is no critic."""
        return {}

    def policy(self) -> DecisionTransformerPolicy:
        """Returns the present network as a policy, which plays on the CPU."""
        actor = self.actor if self.device.type == "cpu" else copy.deepcopy(self.actor).cpu()
        quantile = self.config.target_quantile
        return DecisionTransformerPolicy(actor, self.targets, self.data.observation_names, {}, target_quantile=quantile)

    def modules(self) -> dict[str, nn.Module]:
        """Returns every module that a checkpoint holds, by name."""
        return {"actor": self.actor, "targets": self.targets}

    def generators(self) -> dict[str, torch.Generator]:
        """Returns nothing: chance comes from seed and epoch."""
        return {}

    def _learn(self, batch: Batch, lr: float) -> list[float]:
        """Takes one gradient step and returns loss, entropy and gradient norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        features, bounds, action = self._features(batch)
        self.clock.lap("gradients")
        with torch.no_grad():
            legal = self.actor.head.legal(bounds, action)
        self.clock.lap("masks")
        log_prob, entropy = self.actor.head.evaluate(features, legal, action)
        loss = -log_prob.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.clock.lap("gradients")
        norm = nn.utils.clip_grad_norm_(self.actor.parameters(), self.config.max_grad_norm, foreach=True)
        self.optimizer.step()
        self.clock.lap("optimiser")
        return torch.stack([loss.detach(), entropy.detach().mean(), norm]).tolist()

    def _schedule(self, step: int, n_steps: int) -> float:
        """Returns AdamW's step at a gradient step, of how many."""
        config = self.config
        decay = config.lr_end + (1 - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / n_steps)))
        return config.lr * decay * min(1.0, (step + 1) / max(1, config.warmup))

    def _judged(self, split: str, most: int | None) -> Iterator[Batch]:
        streams, config = self.streams[split], self.config
        stretches = streams.stretches(config.length, self.actor.transformer.reach)
        if most is not None and most < len(self.rows[split]):
            n = max(1, round(len(stretches) * most / len(self.rows[split])))
            stretches = stretches[np.sort(np.random.default_rng(0).choice(len(stretches), n, replace=False))]
        return (batch for batch in streams.batches(stretches, config.batch) if batch.counted.any())

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Returns features, bounds and actions of the decisions that count."""
        there = {key: x.to(self.device) for key, x in vars(batch.decisions).items() if isinstance(x, Tensor)}
        decisions, counted = dataclasses.replace(batch.decisions, **there), batch.counted.to(self.device)
        return self.actor(decisions)[counted], batch.bounds.to(self.device)[counted], decisions.action[counted]

    def _fit_scales(self) -> None:
        """Takes the training data into the scales of returns and columns, and into the targets."""
        data, episodes, streams = self.data, self.episodes["train"], self.streams["train"]
        self.actor.return_scale.fill_(max(float(streams.to_go.std(dtype=np.float64)), 1e-6))
        if isinstance(self.actor.scale, Scale):
            for batch in streams.batches(streams.stretches(512), 64):
                self.actor.scale.update(batch.decisions.observation.to(self.device))
        first_step = np.asarray(data.first_step)
        _, to_go = returns_to_go(data, episodes, self.config.gamma)
        lengths = first_step[episodes + 1] - first_step[episodes]
        seen = np.asarray(data.observation[np.asarray(data.first_decision)[first_step[episodes]]])
        self.targets.fit(to_go[np.cumsum(lengths) - lengths], seen, data.observation_names)
