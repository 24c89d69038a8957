"""A small causal transformer over steps of a few tokens, with a window of steps that every layer looks back on.

Positions are relative: attention is biased by how many steps back a token lies, so what came before the window, how
long the stream is, and padding on either side change nothing. Each layer looks back on the last `context` steps, its
own included, which makes a cache of that many steps exact: see `Cache`.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from algorithms import kernels

EVERYTHING_PAST = -(1 << 40)  # step of a cell of the cache that holds nothing


class Block(nn.Module):
    """One pre-norm layer: attention, then a feed-forward net; both add to what they read (Xiong et al., 2020)."""

    def __init__(self, width: int, heads: int, context: int, dropout: float) -> None:
        """Makes the layers; `context` is how many steps back it sees, its own included."""
        super().__init__()
        self.heads, self.context, self.dropout = heads, context, dropout
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.nearness = nn.Parameter(torch.zeros(heads, context))

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values (..., H, T, d / H) of tokens (..., T, d)."""
        key, value = self.key_value(self.before_attention(x)).chunk(2, -1)
        return self._split(key), self._split(value)

    def bias(self, ago: Tensor, allowed: Tensor) -> Tensor:
        """Returns what is added to the attention (..., H, Tq, Tk): -inf where not allowed.

        Args:
            ago: int64 (..., Tq, Tk), steps from the key's to the query's.
            allowed: bool, the same shape or with a further axis in front; keys outside the window are not seen either.
        """
        seen = allowed & (ago >= 0) & (ago < self.context)
        near = self.nearness[:, ago.clamp(0, self.context - 1)].movedim(0, -3)
        return near.masked_fill(~seen.unsqueeze(-3), -torch.inf)

    def read(self, x: Tensor, keys: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """Returns tokens (..., Tq, d) after they have read keys and values; each sees at least one."""
        query = self._split(self.query(self.before_attention(x)))
        dropout = self.dropout if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, *keys, attn_mask=bias, dropout_p=dropout)
        return self.take(x, found.transpose(-3, -2).flatten(-2))

    def take(self, x: Tensor, found: Tensor) -> Tensor:
        """Returns tokens (..., d) after they have taken in what they found, the same shape, and thought about it."""
        x = x + self._drop(self.out(found))
        return x + self._drop(self.feed(self.before_feed(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


class Transformer(nn.Module):
    """Layers over a stream of steps of `per_step` tokens each; further tokens may read the stream unseen by others."""

    def __init__(self, width: int, layers: int, heads: int, context: int, dropout: float, per_step: int = 3) -> None:
        """Makes the layers."""
        super().__init__()
        if width % heads:
            raise ValueError(f"The width must be a multiple of the heads, got {width} and {heads}.")
        self.width, self.context, self.per_step = width, context, per_step
        self.heads = heads
        self.layers = nn.ModuleList(Block(width, heads, context, dropout) for _ in range(layers))
        self.last = nn.LayerNorm(width)

    @property
    def blocks(self) -> list[Block]:
        """The layers, first to last."""
        return cast(list[Block], list(self.layers))

    @property
    def reach(self) -> int:
        """Steps before its own that a token's output may depend on, through all layers."""
        return len(self.blocks) * (self.context - 1)

    def forward(self, stream: Tensor, asked: int, valid: Tensor | None = None) -> Tensor:
        """Returns (B, T, d), what token number `asked` of each step has become, from tokens (B, T, per_step, d).

        Args:
            stream: B streams of T steps.
            asked: 0..per_step-1.
            valid: bool (B, T), False for steps that are padding; None if no other step follows on padding.
        """
        x = stream.flatten(1, 2)
        ago, allowed = self._past(stream, valid)
        for block in self.blocks[:-1]:
            x = block.read(x, block.keys(x), block.bias(ago, allowed))
        rows = slice(asked, None, self.per_step)
        block = self.blocks[-1]
        return self.last(block.read(x[:, rows], block.keys(x), block.bias(ago[rows], allowed[..., rows, :])))

    def read(
        self, stream: Tensor, readers: Tensor, at: Tensor, place: Tensor, until: int, valid: Tensor | None = None
    ) -> Tensor:
        """Returns (n, d), what tokens have become that read a stream up to a token of their step, and only that.

        Args:
            stream, valid: as for `forward`.
            readers: (n, d).
            at: int64 (n,), index of a reader's step in (B T).
            place: int64 (n,), number of a reader among those of its stream, each number once.
            until: last token of its step that a reader sees.
        """
        n_streams, n_steps = stream.shape[:2]
        x = stream.flatten(1, 2)
        ago, allowed = self._past(stream, valid)
        which, n_places = at.div(n_steps, rounding_mode="floor"), int(place.max()) + 1 if len(place) else 1
        y = readers.new_zeros(n_streams, n_places, self.width).index_put((which, place), readers)
        sees_until = torch.full((n_streams, n_places), until, device=x.device)
        sees_until[which, place] = at % n_steps * self.per_step + until
        streams = torch.arange(n_streams, device=x.device)[:, None]
        reader_allowed = allowed[sees_until] if valid is None else allowed[streams, sees_until]
        reader_ago = ago[sees_until]
        for block in self.blocks:
            keys = block.keys(x)
            y = block.read(y, keys, block.bias(reader_ago, reader_allowed))
            if block is not self.blocks[-1]:
                x = block.read(x, keys, block.bias(ago, allowed))
        return self.last(y[which, place])

    def _past(self, stream: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns by how many steps a token precedes another, int64 (T', T'), and whether that one may see it.

        T' = T per_step; the answer is bool (T', T'), or (B, T', T') where some steps are padding: their tokens see
        themselves, so that they come to something, and are seen by nobody else.
        """
        position = torch.arange(stream.shape[1] * self.per_step, device=stream.device)
        step = position.div(self.per_step, rounding_mode="floor")
        ago, allowed = step[:, None] - step, position[:, None] >= position
        if valid is not None:
            there = valid.repeat_interleave(self.per_step, 1)
            allowed = allowed & (there[:, None] | torch.eye(len(position), dtype=torch.bool, device=stream.device))
        return ago, allowed


class Cache:
    """What layers see of the last steps of many streams: a decision costs its own tokens only. Without autograd.

    The window holds one step more than the layers look back on, since the last token of a step is added together with
    the first ones of the next.
    """

    def __init__(self, transformer: Transformer, n_streams: int) -> None:
        """Allocates for streams 0..n_streams-1, in which nothing has happened."""
        t = transformer
        self._transformer, self._cells = t, (t.context + 1) * t.per_step
        self._key = np.zeros((len(t.blocks), n_streams, t.width, self._cells), np.float32)
        self._value = np.zeros((len(t.blocks), n_streams, self._cells, t.width), np.float32)
        self._position = np.full((n_streams, self._cells), EVERYTHING_PAST * t.per_step)

    def forget(self, streams: np.ndarray) -> None:
        """Empties streams, int64 (n,)."""
        self._position[streams] = EVERYTHING_PAST * self._transformer.per_step

    def append(self, streams: np.ndarray, tokens: Tensor, position: np.ndarray, there: np.ndarray) -> Tensor:
        """Adds tokens to streams and returns (n, m, d), what they are before the last layer: `last` tells the rest.

        Args:
            streams: int64 (n,), each once.
            tokens: (n, m, d), consecutive ones.
            position: int64 (n, m), step * per_step + number within it.
            there: bool (n, m), False for a token that does not exist; the last one does.
        """
        cell, x, blocks = position % self._cells, tokens, self._transformer.blocks
        self._position[np.broadcast_to(streams[:, None], cell.shape)[there], cell[there]] = position[there]
        for i, block in enumerate(blocks):
            key, value = (part.contiguous().numpy() for part in block.key_value(block.before_attention(x)).chunk(2, -1))
            kernels.remember(streams, cell, there, key, value, self._key[i], self._value[i])
            if block is not blocks[-1]:
                x = self._read(i, x, streams, position)
        return x

    def last(self, x: Tensor, streams: np.ndarray, position: np.ndarray) -> Tensor:
        """Returns (n, d), what the last of tokens has become after all layers, from what `append` returned and took."""
        x = self._read(len(self._transformer.blocks) - 1, x[:, -1:], streams, position[:, -1:])
        return self._transformer.last(x[:, 0])

    def read(self, readers: Tensor, streams: np.ndarray, position: np.ndarray) -> Tensor:
        """Returns (n, d), what readers (n, d) have become that see streams (n,) up to a position, int64 (n,)."""
        y = readers[:, None]
        for i in range(len(self._transformer.blocks)):
            y = self._read(i, y, streams, position[:, None])
        return self._transformer.last(y[:, 0])

    def _read(self, layer: int, x: Tensor, streams: np.ndarray, asking: np.ndarray) -> Tensor:
        """`Block.read` of tokens (n, m, d) at positions (n, m) of their streams."""
        block = self._transformer.blocks[layer]
        query, found = block.query(block.before_attention(x)), torch.empty(x.shape)
        kernels.attend(
            query.numpy(), self._key[layer], self._value[layer], self._position, streams, np.ascontiguousarray(asking),
            block.nearness.detach().numpy(), self._transformer.per_step, found.numpy(),
        )  # fmt: skip
        return block.take(x, found)
