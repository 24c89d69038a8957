"""The arrays of E worlds, the play of some of them in this process, and the life of a worker process that does so."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env.actions import WAIT
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.config import EnvConfig
from scml_marl_env.layout import EnvArrays, Layout

_ALIGNMENT = 64
EMPTY_EPISODES = 20


class VectorArrays(NamedTuple):
    """The arrays of E worlds, all in one piece of memory."""

    now: EnvArrays  # with a leading axis E
    final_observation: np.ndarray  # float32 (E, N, D); these four have 0 worlds where one team is shown
    final_state: np.ndarray  # float32 (E, F, S)
    final_active: np.ndarray  # bool (E, N)
    final_bounds: np.ndarray  # int32 (E, N, M)
    actions: np.ndarray  # int64 (E, N), of the step that is asked for
    episode: np.ndarray  # int64 (E,), which episode of its world is on
    length: np.ndarray  # int64 (E,), its steps so far
    returns: np.ndarray  # float64 (E, F), its rewards so far
    done: np.ndarray  # bool (E, F), the team has ended, or does not exist in this world
    team: np.ndarray  # int64 (E,), whose window it is
    stepped: np.ndarray  # bool (E,), the worlds of the step that is asked for

    @classmethod
    def over(cls, memory: Any, layout: Layout, n_worlds: int) -> "VectorArrays":
        """The arrays in a writable buffer of `size_of` bytes."""
        # Not np.ndarray(buffer=memory), which would not keep the memory from being unmapped.
        everything = np.frombuffer(memory, np.uint8)
        arrays: list[np.ndarray] = []
        offset = 0
        for shape, dtype in _shapes(layout, n_worlds):
            n_bytes = _n_bytes(shape, dtype)
            arrays.append(everything[offset : offset + n_bytes].view(dtype).reshape(shape))
            offset += _aligned(n_bytes)
        n_shown = len(EnvArrays._fields)
        return cls(EnvArrays(*arrays[:n_shown]), *arrays[n_shown:])

    @staticmethod
    def size_of(layout: Layout, n_worlds: int) -> int:
        """Bytes of the arrays of `n_worlds` worlds."""
        return sum(_aligned(_n_bytes(*part)) for part in _shapes(layout, n_worlds))

    def take(self, actions: np.ndarray, n_actions: int) -> int:
        """Notes int (E, N) actions of the agents that decide; returns e * N + n of a wrong one, else -1."""
        self.actions[:] = WAIT
        np.copyto(self.actions, actions, where=self.now.active, casting="same_kind")
        wrong = (self.actions < 0) | (self.actions >= n_actions)
        return int(wrong.argmax()) if wrong.any() else -1

    def rest(self, e: Any) -> None:
        """The results of a step for worlds that are not stepped."""
        for array in (self.now.reward, self.now.elapsed, self.now.terminated, self.now.truncated, self.now.executed):
            array[e] = 0

    def world(self, e: int) -> EnvArrays:
        """The rows of one world, sharing memory."""
        return EnvArrays(*(array[e] for array in self.now))


def _shapes(layout: Layout, n_worlds: int) -> list[tuple[tuple[int, ...], type]]:
    shown = layout.shapes()
    f = layout.n_factories
    rows = [(n_worlds, *shown[name]) for name in EnvArrays._fields]
    n_final = 0 if layout.one_team else n_worlds
    rows += [(n_final, *shown[name]) for name in ("observation", "state", "active", "bounds")]
    rows += [(n_worlds, *shown["executed"])]
    rest: list[tuple[tuple[int, ...], type]]
    rest = [((), np.int64), ((), np.int64), ((f,), np.float64), ((f,), np.bool_), ((), np.int64), ((), np.bool_)]
    rows += [(n_worlds, *part) for part in rest]
    return [((n, *shape), dtype) for n, shape, dtype in rows]


def _n_bytes(shape: tuple[int, ...], dtype: type) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT


class SharedBlock(SharedMemory):
    """Shared memory whose arrays may outlive it: `close` lets go of the file, the memory goes with the last array."""

    def close(self) -> None:
        try:
            super().close()
        except BufferError:  # an array still looks into it
            descriptor = getattr(self, "_fd", -1)
            if descriptor >= 0:
                os.close(descriptor)
                self._fd = -1


def episode_seed(seed: int, world: int, episode: int) -> int:
    """The seed of one episode of one world, whoever plays it and however many others there are."""
    return int(np.random.SeedSequence([seed, world, episode]).generate_state(1)[0] >> 1)


class Shard:
    """Some of the worlds, played in this process into their rows of the arrays."""

    def __init__(self, config: EnvConfig, arrays: VectorArrays, worlds: Sequence[int]) -> None:
        self.arrays = arrays
        self._games = {e: ArrayEnv(config, arrays.world(e), lazy=True) for e in worlds}
        self._seed = 0

    def begin(self, seed: int, episodes: Mapping[int, int]) -> list[dict[str, Any]]:
        """Starts episode `episodes[e]` of each world e. Returns statistics of episodes that were over at once."""
        self._seed = seed
        ended: list[dict[str, Any]] = []
        for e, episode in episodes.items():
            self._begin(e, episode, ended)
        return ended

    def take(self, actions: np.ndarray, n_actions: int) -> int:
        """See `VectorArrays.take`."""
        return self.arrays.take(actions, n_actions)

    def start_step(self) -> None:
        """Nothing: this process plays while it waits for the end of the step."""

    def step(self) -> list[dict[str, Any]]:
        """Plays the actions of the arrays and resets worlds whose last team ends. Returns their statistics."""
        ended: list[dict[str, Any]] = []
        for e, game in self._games.items():
            if not self.arrays.stepped[e]:
                self.arrays.rest(e)
                continue
            self._play(e, self.arrays.actions[e])
            if game.window is None:
                ended.append(self._statistics(e))
                shown = game.arrays
                results = (shown.reward, shown.elapsed, shown.terminated, shown.truncated, shown.executed)
                kept = [array.copy() for array in results]
                self._begin(e, int(self.arrays.episode[e]) + 1, ended)
                for array, values in zip(results, kept, strict=True):
                    array[:] = values
        return ended

    def refresh(self) -> None:
        """Brings the rows of every team up to date, see `ArrayEnv.refresh`."""
        for game in self._games.values():
            game.refresh()

    def journals(self) -> dict[int, np.ndarray]:
        """World -> int32 (T, N), the actions since its episode began."""
        return {e: game.state_dict()["actions"] for e, game in self._games.items()}

    def replay(self, seed: int, episodes: Mapping[int, int], journals: Mapping[int, np.ndarray]) -> None:
        """Plays `journals` from the beginning of `episodes`; a world that is over too soon begins its next episode."""
        self.begin(seed, episodes)
        for e, journal in journals.items():
            for actions in np.asarray(journal, dtype=np.int64):
                self._play(e, actions)
                if self._games[e].window is None:
                    self._begin(e, int(self.arrays.episode[e]) + 1, [])
                    break

    def close(self) -> None:
        """Ends the worlds."""
        for game in self._games.values():
            game.close()

    def _begin(self, e: int, episode: int, ended: list[dict[str, Any]]) -> None:
        arrays, game = self.arrays, self._games[e]
        for attempt in range(EMPTY_EPISODES):
            arrays.episode[e], arrays.length[e], arrays.returns[e] = episode + attempt, 0, 0
            game.reset(episode_seed(self._seed, e, episode + attempt))
            arrays.done[e] = game.done
            if game.window is not None:
                arrays.team[e] = game.window
                return
            ended.append(self._statistics(e))
        raise RuntimeError(
            f"World {e} was over before its first window in {EMPTY_EPISODES} episodes in a row, from episode "
            f"{episode} of seed {self._seed}; in the last one with world_error={game.world_error!r}."
        )

    def _play(self, e: int, actions: np.ndarray) -> None:
        arrays, game = self.arrays, self._games[e]
        game.step(actions)
        shown = game.arrays
        arrays.done[e] = game.done
        arrays.team[e] = -1 if game.window is None else game.window
        arrays.length[e] += 1
        arrays.returns[e] += shown.reward
        over = shown.terminated | shown.truncated
        if over.any():
            agents = np.repeat(over, game.config.n_slots)
            arrays.final_observation[e, agents] = shown.observation[agents]
            arrays.final_bounds[e, agents] = shown.bounds[agents]
            arrays.final_active[e, agents] = shown.active[agents]
            arrays.final_state[e, over] = shown.state[over]

    def _statistics(self, e: int) -> dict[str, Any]:
        return {"world": e, "episode": int(self.arrays.episode[e]), **self._games[e].statistics()}


def serve(
    connection: multiprocessing.connection.Connection, worlds: range, config: EnvConfig, n_worlds: int, block: str
) -> None:
    """The life of a worker process: answers calls of its shard's methods until the parent hangs up.

    It receives (method of `Shard`, arguments), and sends (None, result) or ((error, its traceback), None).
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    memory = SharedBlock(name=block)
    shard = Shard(config, VectorArrays.over(memory.buf, Layout(config), n_worlds), worlds)
    answer: tuple[tuple[Exception, str] | None, Any]
    with contextlib.suppress(EOFError, OSError):
        while True:
            method, arguments = connection.recv()
            try:
                answer = None, getattr(shard, method)(*arguments)
            except Exception as error:
                answer = (_portable(error), traceback.format_exc()), None
            connection.send(answer)


def _end_with_parent() -> None:
    """Also in the middle of a step, which an opponent may never end."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """`error`, or a RuntimeError that says the same if it does not survive a pipe."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
