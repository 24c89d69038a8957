"""The network of a Decision Transformer: tokens of returns-to-go, observations and actions in, a masked head out.

Two layouts of the stream, three tokens to a step:

    thread     R_t, o_t, a_t of one thread's decisions, over rounds and days. a_t is predicted from what o_t becomes.
    factory    R_w, o_w, a_w of one factory's windows: o_w pools what all threads of the window see (mean and largest),
               a_w pools what each of them saw and answered. The answer of a thread is predicted from a token of its own
               observation, which reads the stream up to o_w and is read by nobody: threads of a window answer at the
               same time, none knows what the others do, and reordering them reorders the answers and nothing else.

Goal and priority, the conditions of the layers above, are added to the observation through weights that start at zero.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from algorithms.heads import FIRST_OFFER, OFFER, make_head
from algorithms.interface import ActionGrid
from algorithms.networks import Scale
from algorithms.transformer import Transformer

Layout = Literal["thread", "factory"]
RETURN, SEEN, DONE = 0, 1, 2  # the tokens of a step, in their order
N_CONDITIONS = 5  # of a decision: the factory's goal (4 numbers), the thread's priority (1)


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Sizes of the network and the meaning of its stream."""

    tokens: Layout = "thread"
    """whose stream is read: the thread's own decisions, or the windows of its factory"""
    context: int = 16
    """steps that each layer looks back on, its own included"""
    width: int = 64
    """numbers of a token"""
    layers: int = 2
    """of the transformer"""
    heads: int = 4
    """of its attention"""
    dropout: float = 0.0
    """while training; never in play"""
    gamma: float = 1.0
    """discount of the returns-to-go, for one unit of the time that the env says has elapsed"""
    normalise_observation: bool = False
    """mean 0 and deviation 1 over the data; off where the env scales its features"""

    def __post_init__(self) -> None:
        for name in ("context", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"StreamConfig.{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1 or not 0 < self.gamma <= 1:
            raise ValueError(f"dropout lies in [0, 1) and gamma in (0, 1], got {self.dropout} and {self.gamma}.")


@dataclass(frozen=True)
class Decisions:
    """B stretches of streams, T steps each, and the n decisions in them.

    Attributes:
        to_go: float32 (B, T), the returns-to-go, in units of reward.
        observation: float32 (n, D).  action: int64 (n,).
        at: int64 (n,), index of the decision's step in (B T), ascending; in a thread's stream each index comes once.
        place: int64 (n,), number of the decision among those of its stretch.
        condition: float32 (n, N_CONDITIONS), None for zeros.
        valid: bool (B, T), False for steps that do not exist; None if all of these are behind the last that does.
    """

    to_go: Tensor
    observation: Tensor
    action: Tensor
    at: Tensor
    place: Tensor
    condition: Tensor | None = None
    valid: Tensor | None = None


class ActionEmbedding(nn.Module):
    """A flat action as the sum of an embedding of each of its factors; of those of an offer only where it is one."""

    def __init__(self, width: int, grid: ActionGrid) -> None:
        """Makes the tables."""
        super().__init__()
        self.factors = grid.factors
        if self.factors is None:
            self.action = nn.Embedding(grid.n_actions, width)
            return
        n_leads, n_quantities, n_prices = self.factors
        self.operation, self.lead = nn.Embedding(4, width), nn.Embedding(n_leads, width)
        self.price, self.quantity = nn.Embedding(n_prices, width), nn.Embedding(n_quantities, width)

    def forward(self, action: Tensor) -> Tensor:
        """Returns (n, d) from int64 (n,)."""
        if self.factors is None:
            return self.action(action)
        _, n_quantities, n_prices = self.factors
        rest = (action - FIRST_OFFER).clamp(min=0)
        cell = rest.div(n_prices, rounding_mode="floor")
        lead = cell.div(n_quantities, rounding_mode="floor")
        offer = self.lead(lead) + self.price(rest % n_prices) + self.quantity(cell % n_quantities)
        return self.operation(action.clamp(max=OFFER)) + offer * (action >= FIRST_OFFER).unsqueeze(-1)


class StreamActor(nn.Module):
    """From streams of returns-to-go, observations and actions to the features of the head."""

    def __init__(self, n_columns: int, grid: ActionGrid, config: StreamConfig) -> None:
        """Makes the layers."""
        super().__init__()
        self.config, width = config, config.width
        self.scale = Scale(n_columns) if config.normalise_observation else nn.Identity()
        self.see = nn.Sequential(nn.Linear(n_columns, width), nn.GELU(), nn.Linear(width, width))
        self.condition = nn.Linear(N_CONDITIONS, width, bias=False)
        nn.init.zeros_(self.condition.weight)
        self.aim = nn.Linear(1, width)
        self.did = ActionEmbedding(width, grid)
        self.kind = nn.Parameter(0.02 * torch.randn(3, width))
        if config.tokens == "factory":
            self.pool_seen, self.pool_done = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.transformer = Transformer(width, config.layers, config.heads, config.context, config.dropout)
        self.head = make_head(width, grid)
        self.return_scale: Tensor
        self.register_buffer("return_scale", torch.ones((), dtype=torch.float64))

    def forward(self, batch: Decisions) -> Tensor:
        """Returns (n, d), the features from which the head draws each action, with which they do not change."""
        shape = (*batch.to_go.shape, self.config.width)
        n_steps = batch.to_go.numel()
        seen = self.look(batch.observation, batch.condition)
        if self.config.tokens == "thread":
            now = seen.new_zeros(n_steps, shape[-1]).index_put((batch.at,), seen)
            done = seen.new_zeros(n_steps, shape[-1]).index_put((batch.at,), self.did(batch.action))
        else:
            now = self.pool_seen(pooled(seen, batch.at, n_steps))
            done = self.answers(seen, batch.action, batch.at, n_steps)
        tokens = torch.stack([self.aim_at(batch.to_go), now.view(shape), done.view(shape)], 2) + self.kind
        if self.config.tokens == "thread":
            return self.transformer(tokens, SEEN, batch.valid).flatten(0, 1)[batch.at]
        return self.transformer.read(tokens, seen, batch.at, batch.place, SEEN, batch.valid)

    def look(self, observation: Tensor, condition: Tensor | None) -> Tensor:
        """Returns (n, d) of what threads see, (n, D), under conditions (n, N_CONDITIONS)."""
        seen = self.see(self.scale(observation))
        return seen if condition is None else seen + self.condition(condition)

    def aim_at(self, to_go: Tensor) -> Tensor:
        """Returns (..., d) of returns-to-go (...) in units of reward."""
        return self.aim((to_go / self.return_scale.to(to_go.dtype)).float().unsqueeze(-1))

    def answers(self, seen: Tensor, action: Tensor, at: Tensor, n_steps: int) -> Tensor:
        """Returns (n_steps, d), what the threads of each window saw and did, from (n, d) and (n,), pooled."""
        return self.pool_done(pooled(torch.tanh(seen + self.did(action)), at, n_steps))


def pooled(x: Tensor, at: Tensor, n: int) -> Tensor:
    """Returns (n, 2 d): mean and largest of the rows (m, d) at each of n places, 0 where there is none."""
    index = at.unsqueeze(-1).expand_as(x)
    zeros = x.new_zeros(n, x.shape[-1])
    count = x.new_zeros(n).index_add(0, at, x.new_ones(len(x))).clamp(min=1)
    largest = zeros.scatter_reduce(0, index, x, "amax", include_self=False)
    return torch.cat([zeros.index_add(0, at, x) / count.unsqueeze(-1), largest], -1)
