"""Recorded decisions as the streams that a Decision Transformer reads, cut into stretches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from algorithms.offline import OfflineData, returns_to_go, spans
from algorithms.stream_actor import Decisions, StreamConfig


@dataclass(frozen=True)
class Stretches:
    """Pieces of streams: steps start[i]:stop[i], of which those from counted[i] on are learnt from or judged.

    Attributes:
        start, counted, stop: int64 (n,), numbers of steps in `Streams`.
    """

    start: np.ndarray
    counted: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, which: np.ndarray | slice) -> "Stretches":
        return Stretches(self.start[which], self.counted[which], self.stop[which])


@dataclass(frozen=True)
class Batch:
    """Stretches in memory.

    Attributes:
        decisions: all of theirs, n.
        rows: int64 (n,), their numbers in the data.
        bounds: int32 (n, M).
        counted: bool (n,), to be learnt from or judged: of the stretch proper, and legal.
    """

    decisions: Decisions
    rows: np.ndarray
    bounds: Tensor
    counted: Tensor


class Streams:
    """The decisions of some episodes, stream by stream and in time within each; a stream never leaves its episode.

    A step is one decision of a thread, or one window of a factory (`StreamConfig.tokens`). Its return-to-go is that of
    the factory at that window, in both.
    """

    def __init__(self, data: OfflineData, episodes: np.ndarray, config: StreamConfig) -> None:
        """Sorts the decisions of `episodes` int64 (n,)."""
        self._data = data
        steps, to_go = returns_to_go(data, episodes, config.gamma)
        rows = spans(data.first_decision, steps)
        first_decision, first_step = np.asarray(data.first_decision), np.asarray(data.first_step)
        n_decisions = first_decision[steps + 1] - first_decision[steps]
        episode = np.repeat(np.arange(len(episodes)), first_step[episodes + 1] - first_step[episodes])
        if config.tokens == "thread":
            step = np.repeat(np.arange(len(steps)), n_decisions)
            key = np.stack([episode[step], np.asarray(data.slot)[rows].astype(np.int64)])
            order = np.lexsort(key[::-1])  # stable: in time within a stream
            changes = (np.diff(key[:, order]) != 0).any(0)
            rows, to_go, n_decisions = rows[order], to_go[step[order]], np.ones(len(rows), np.int64)
        else:
            changes = np.diff(episode) != 0
        self.rows = rows
        """int64 (R,), the decisions' numbers in the data, stream by stream"""
        self.to_go = to_go.astype(np.float32)
        """float32 (steps,)"""
        self._first_row = np.concatenate([[0], np.cumsum(n_decisions)])
        self._first = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(self.to_go)]])

    @property
    def n_steps(self) -> int:
        """Steps of all streams."""
        return len(self.to_go)

    def stretches(self, length: int, before: int = 0, rng: np.random.Generator | None = None) -> Stretches:
        """Cuts every stream into pieces of `length` steps, each step in one of them.

        Args:
            length: of a piece; the first and the last of a stream may be shorter.
            before: steps that precede it for context only, as far as the stream has them.
            rng: of where the cuts lie; None cuts from the start on.
        """
        first, size = self._first[:-1], np.diff(self._first)
        shift = np.zeros(len(size), np.int64) if rng is None else rng.integers(length, size=len(size))
        count = -(-(size + shift) // length)
        stream = np.repeat(np.arange(len(size)), count)
        number = np.arange(len(stream)) - np.repeat(np.cumsum(count) - count, count)
        begin = number * length - shift[stream]
        counted, stop = np.maximum(begin, 0), np.minimum(begin + length, size[stream])
        return Stretches(*(first[stream] + x for x in (np.maximum(counted - before, 0), counted, stop)))

    def read(self, stretches: Stretches) -> Batch:
        """Reads stretches, padded behind to the longest."""
        data, length = self._data, stretches.stop - stretches.start
        n, longest = len(length), int(length.max())
        stretch = np.repeat(np.arange(n), length)
        number = np.arange(len(stretch)) - np.repeat(np.cumsum(length) - length, length)
        step = stretches.start[stretch] + number
        to_go = np.zeros((n, longest), np.float32)
        to_go[stretch, number] = self.to_go[step]
        rows = self.rows[spans(self._first_row, step)]
        per_step = self._first_row[step + 1] - self._first_row[step]
        of_stretch = np.bincount(stretch, per_step, n).astype(np.int64)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(of_stretch) - of_stretch, of_stretch)
        counted = np.repeat(step >= stretches.counted[stretch], per_step) & np.asarray(data.legal[rows])
        decisions = Decisions(
            to_go=torch.from_numpy(to_go),
            observation=torch.from_numpy(np.asarray(data.observation[rows], np.float32)),
            action=torch.from_numpy(np.asarray(data.action[rows], np.int64)),
            at=torch.from_numpy(np.repeat(stretch * longest + number, per_step)),
            place=torch.from_numpy(place),
        )
        bounds = torch.from_numpy(np.asarray(data.bounds[rows], np.int32))
        return Batch(decisions, rows, bounds, torch.from_numpy(counted))

    def batches(self, stretches: Stretches, size: int) -> Iterator[Batch]:
        """Reads all stretches, `size` at a time, in their order."""
        for i in range(0, len(stretches), size):
            yield self.read(stretches[slice(i, i + size)])
