"""The networks: an actor, two kinds of critic, and the running statistics that feed them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from algorithms.dense import linear
from algorithms.heads import Uniform, make_head
from algorithms.interface import ActionGrid

Activation = Literal["tanh", "relu"]


class Torso(nn.Sequential):
    """Linear layers and activations in turn; on a CPU and without autograd on faster products."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., H) from (..., D)."""
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return super().forward(x)
        rows = x.reshape(-1, x.shape[-1])
        for layer, activation in pairwise(self):
            if not isinstance(layer, nn.Linear):
                continue
            rows = linear(rows, layer.weight, layer.bias, "tanh" if isinstance(activation, nn.Tanh) else "relu")
        return rows.view(*x.shape[:-1], -1)


def mlp(n_inputs: int, hidden: Sequence[int], activation: Activation) -> Torso:
    """Returns linear layers, each followed by the activation; orthogonal, as PPO's original code initialises them."""
    layers: list[nn.Module] = []
    gain = nn.init.calculate_gain(activation)
    for n_outputs in hidden:
        layers += [orthogonal(nn.Linear(n_inputs, n_outputs), gain), nn.Tanh() if activation == "tanh" else nn.ReLU()]
        n_inputs = n_outputs
    return Torso(*layers)


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """Returns the layer with orthogonal weights of the given gain and zero bias (Saxe et al., 2014)."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Actor(nn.Module):
    """Observation and bounds to an action, for any number of agents as rows: all agents share these parameters."""

    def __init__(
        self, n_columns: int, grid: ActionGrid, hidden: Sequence[int], activation: Activation, normalise: bool
    ) -> None:
        """Makes the layers; the last ones start near zero, so that the first policy is nearly uniform."""
        super().__init__()
        self.scale = Scale(n_columns) if normalise else nn.Identity()
        self.torso = mlp(n_columns, hidden, activation)
        self.head = make_head(hidden[-1], grid)
        for layer in self.head.children():
            if isinstance(layer, nn.Linear):
                orthogonal(layer, 0.01)

    def sample(self, observation: Tensor, bounds: Tensor, uniform: Uniform, greedy: bool) -> tuple[Tensor, Tensor]:
        """Returns (action int64 (n,), log p float32 (n,)) for observation (>= n, D) and bounds (n, M).

        Rows of the observation beyond those of the bounds are ignored, see `dense.padded`.
        """
        return self.head.sample(self.torso(self.scale(observation)), bounds, uniform, greedy)

    def evaluate(self, observation: Tensor, legal: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (log p, entropy), float32 (n,), of actions (n,) under `legal` = head.legal(bounds, action)."""
        return self.head.evaluate(self.torso(self.scale(observation)), legal, action)


class Critic(nn.Module):
    """V of one row of columns: (n, D) -> (n,), in units of the value normaliser."""

    def __init__(self, n_columns: int, hidden: Sequence[int], activation: Activation, normalise: bool) -> None:
        """Makes the layers."""
        super().__init__()
        self.scale = Scale(n_columns) if normalise else nn.Identity()
        self.torso = mlp(n_columns, hidden, activation)
        self.value = orthogonal(nn.Linear(hidden[-1], 1), 1.0)

    def forward(self, columns: Tensor) -> Tensor:
        """Returns (n,) from (n, D)."""
        return self.value(self.torso(self.scale(columns))).squeeze(-1)


class PooledCritic(nn.Module):
    """V of a set of K threads: each is encoded by the same layer, then mean and maximum go on (Deep Sets).

    Zaheer et al., 2017: a function of a set is rho(pool_k phi(x_k)). Reordering the threads changes nothing.
    """

    def __init__(self, n_columns: int, hidden: Sequence[int], activation: Activation, normalise: bool) -> None:
        """Makes the layers: the first encodes a thread, the others read the pool."""
        super().__init__()
        self.scale = Scale(n_columns) if normalise else nn.Identity()
        self.encoder = mlp(n_columns, hidden[:1], activation)
        self.torso = mlp(2 * hidden[0], hidden[1:] or hidden[:1], activation)
        self.value = orthogonal(nn.Linear(hidden[-1], 1), 1.0)

    def forward(self, threads: Tensor) -> Tensor:
        """Returns (n,) from (n, K, D)."""
        encoded = self.encoder(self.scale(threads))
        pooled = torch.cat([encoded.mean(1), encoded.amax(1)], dim=-1)
        return self.value(self.torso(pooled)).squeeze(-1)


class Scale(nn.Module):
    """Columns less their running mean, over their running deviation, clipped to +-10; constant within an update."""

    def __init__(self, n_columns: int) -> None:
        """Starts as the identity."""
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(n_columns, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(n_columns, dtype=torch.float64))

    def forward(self, columns: Tensor) -> Tensor:
        """Returns the same shape, (..., D)."""
        if self.count == 0:
            return columns
        deviation = (self.square / self.count).sqrt().clamp(min=1e-4)
        return ((columns - self.mean.float()) / deviation.float()).clamp(-10, 10)

    @torch.no_grad()
    def update(self, columns: Tensor) -> None:
        """Adds (..., D) to the statistics (Chan et al., 1979: counts, means and squared deviations add up)."""
        rows = columns.reshape(-1, columns.shape[-1]).double()
        n, mean = len(rows), rows.mean(0)
        shift, total = mean - self.mean, self.count + n
        self.square += ((rows - mean) ** 2).sum(0) + shift**2 * self.count * n / total
        self.mean += shift * n / total
        self.count.copy_(total)


class ValueScale(nn.Module):
    """Running mean and deviation of the critic's targets: an exponential average, without its bias to the start.

    As MAPPO's ValueNorm (Yu et al., 2022): m <- b m + (1 - b) mean(x), likewise for x^2, both divided by 1 - b^k after
    k updates. One update takes in all targets of one estimate of a rollout. Before the first no scale is known, and
    every value restores to 0: a fresh critic's noise, taken for dollars, would drown small rewards. Without a decay it
    is the identity.

    The decay matters where targets travel far at the start, as they do when truncation is bootstrapped (from 0 to
    r / (1 - gamma)). With a long memory V lags behind its target, and early steps of an episode seem worse than late
    ones: on simple_spread (25 steps, gamma 0.99, one estimate per rollout) decays of 0.99 and 0.8 first unlearnt for 30
    to 50 rollouts; 0.5 and 0 did not.
    """

    def __init__(self, decay: float | None) -> None:
        """Starts without a scale; `decay` is b, None for values that are never scaled."""
        super().__init__()
        self.decay = decay
        self.moments: Tensor
        self.weight: Tensor
        self.register_buffer("moments", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, target: Tensor) -> None:
        """Takes in the targets of one rollout."""
        if self.decay is None:
            return
        x = target.double()
        new = torch.stack([x.mean(), (x**2).mean()])
        self.moments.mul_(self.decay).add_((1 - self.decay) * new)
        self.weight.mul_(self.decay).add_(1 - self.decay)

    def normalise(self, value: Tensor) -> Tensor:
        """Returns (value - mean) / deviation."""
        mean, deviation = self._statistics()
        return (value - mean) / deviation

    def restore(self, value: Tensor) -> Tensor:
        """Returns value * deviation + mean, the inverse of `normalise`."""
        mean, deviation = self._statistics()
        return value * deviation + mean

    def _statistics(self) -> tuple[float, float]:
        weight = float(self.weight)
        if self.decay is None or weight == 0:
            return 0.0, 1.0 if self.decay is None else 0.0
        mean, square = (self.moments / weight).tolist()
        return mean, math.sqrt(max(square - mean**2, 1e-4))
