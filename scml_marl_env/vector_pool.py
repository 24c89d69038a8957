"""Worker processes that play E worlds: their pipes and shared memory, and what happens when one of them dies.

Data go through one block of shared memory. Pipes carry small messages only, and the parent always speaks first.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from scml_marl_env.config import EnvConfig
from scml_marl_env.layout import Layout
from scml_marl_env.vector_worker import SharedBlock, VectorArrays, episode_seed, serve

_DEATHS_IN_A_ROW = 3
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
_spawning = threading.Lock()


class RemoteTraceback(Exception):
    """The cause of an error that was raised in a worker: its traceback there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class WorkerDied(Exception):
    """The process of a worker ended without an answer."""


class Worker:
    """A process that plays a shard of the worlds, and this side's end of its pipe.

    Attributes:
        index: number of the worker.
        worlds: the worlds of its shard.
        pid: of its process.
        sound: it is alive, as far as known, and has answered everything that it was asked.
        exit_code: of the process that died last.
    """

    def __init__(self, index: int, worlds: range, config: EnvConfig, n_worlds: int, block: str) -> None:
        self.index, self.worlds = index, worlds
        self.exit_code: int | None = None
        self._has_answered = False
        self._arguments = (worlds, config, n_worlds, block)
        self._start()

    def ask(self, method: str, *arguments: Any) -> None:
        """Sends a call of a method of `Shard`; `answer` returns its result."""
        self.sound = False
        with contextlib.suppress(OSError):  # it died: `answer` will say so
            self._connection.send((method, arguments))

    def answer(self) -> Any:
        """Waits for the result of what was asked.

        Raises:
            WorkerDied: the process is gone; `restart` starts another.
            RuntimeError: it was gone before it ever answered, so that another one would be too.
            Exception: what the method raised, with the traceback of the worker as its cause.
        """
        try:
            error, result = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(10)
            self.exit_code = self._process.exitcode
            if self._has_answered:
                raise WorkerDied from None
            raise RuntimeError(
                f"Worker {self.index} exited with code {self.exit_code} while it started; its own message is above. A "
                "script that defines its opponents itself must make workers under `if __name__ == '__main__':`."
            ) from None
        self.sound = self._has_answered = True
        if error is not None:
            raise error[0] from RemoteTraceback(error[1])
        return result

    def restart(self) -> None:
        """Replaces the process by a new one, in which no episode has begun."""
        self.kill()
        self._start()

    def kill(self) -> None:
        """Ends the process and waits until it is gone; it holds nothing but memory."""
        self._connection.close()
        with contextlib.suppress(ValueError):  # it was killed before
            self._process.kill()
            self._process.join()
            self._process.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        name = f"scml-worker-{self.index}"
        self._process = context.Process(target=serve, args=(theirs, *self._arguments), name=name, daemon=True)
        with _start_of_a_worker(needs_main=_names_main(self._arguments[1].opponents)):
            self._process.start()
        self.pid = self._process.pid
        theirs.close()  # else its death would not show
        self.sound, self._has_answered = True, False


class Pool:
    """The worlds, dealt evenly to worker processes; the same calls as `Shard`, with the same results.

    Attributes:
        arrays: `VectorArrays` in shared memory.
        workers: the processes.
        memory_name: of the block of shared memory.
    """

    def __init__(self, config: EnvConfig, layout: Layout, n_worlds: int, n_workers: int) -> None:
        size = VectorArrays.size_of(layout, n_worlds)
        block = SharedBlock(create=True, size=size)
        self.memory_name = block.name
        self.workers: list[Worker] = []
        self._release = weakref.finalize(self, _release, self.workers, block, os.getpid())
        self.arrays = VectorArrays.over(block.buf, layout, n_worlds)
        self._seen = VectorArrays.over(bytearray(size), layout, n_worlds)
        self._seed = 0
        self._has_warned = False
        for index, worlds in enumerate(np.array_split(np.arange(n_worlds), n_workers)):
            span = range(int(worlds[0]), int(worlds[-1]) + 1)
            self.workers.append(Worker(index, span, config, n_worlds, self.memory_name))

    def begin(self, seed: int, episodes: Mapping[int, int]) -> list[dict[str, Any]]:
        """See `Shard.begin`. Workers that died, or were interrupted, are replaced before."""
        self._seed = seed
        self._mend()
        return self._begin(self.workers, episodes)

    def take(self, actions: np.ndarray, n_actions: int) -> int:
        """See `VectorArrays.take`."""
        return self.arrays.take(actions, n_actions)

    def start_step(self) -> None:
        """Tells the workers to play the actions of the arrays."""
        self._look()
        for worker in self.workers:
            worker.ask("step")

    def step(self) -> list[dict[str, Any]]:
        """Waits for the end of the step that `start_step` began, and replaces workers that died. See `Shard.step`."""
        answers, dead = self._gather(self.workers)
        ended = [statistics for answer in answers for statistics in answer]
        for worker in dead:
            ended += self._replace(worker)
        return ended

    def refresh(self) -> None:
        """See `Shard.refresh`. The rows of a worker that died stay; the next step will truncate its worlds."""
        for worker in self.workers:
            worker.ask("refresh")
        self._gather(self.workers)

    def journals(self) -> dict[int, np.ndarray]:
        """See `Shard.journals`. The worlds of a worker that died are missing; the next step will truncate them."""
        for worker in self.workers:
            worker.ask("journals")
        answers, _ = self._gather(self.workers)
        return {e: journal for answer in answers for e, journal in answer.items()}

    def replay(self, seed: int, episodes: Mapping[int, int], journals: Mapping[int, np.ndarray]) -> None:
        """See `Shard.replay`."""
        self._seed = seed
        self._mend()
        for worker in self.workers:
            worker.ask("replay", seed, *({e: known[e] for e in worker.worlds} for known in (episodes, journals)))
        _, dead = self._gather(self.workers)
        if dead:
            raise RuntimeError(f"Worker {dead[0].index} died (exit code {dead[0].exit_code}) during the replay.")

    def close(self) -> None:
        """Ends the processes and removes the shared memory; may be called again."""
        self._release()

    def _gather(self, workers: Iterable[Worker]) -> tuple[list[Any], list[Worker]]:
        """(answers, workers that died instead). Raises the first error of a worker, after all have answered."""
        answers, dead, errors = [], [], []
        for worker in workers:
            try:
                answers.append(worker.answer())
            except WorkerDied:
                dead.append(worker)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers, dead

    def _begin(self, workers: list[Worker], episodes: Mapping[int, int]) -> list[dict[str, Any]]:
        ended = []
        waiting = workers
        for _ in range(_DEATHS_IN_A_ROW):
            for worker in waiting:
                worker.ask("begin", self._seed, {e: episodes[e] for e in worker.worlds})
            answers, waiting = self._gather(waiting)
            ended += [statistics for answer in answers for statistics in answer]
            if not waiting:
                return ended
            for worker in waiting:
                self._warn_of(worker)
                worker.restart()
        raise RuntimeError(
            f"Worker {waiting[0].index} died {_DEATHS_IN_A_ROW} times in a row (exit code {waiting[0].exit_code}) "
            f"while its worlds {_span(waiting[0])} began."
        )

    def _replace(self, worker: Worker) -> list[dict[str, Any]]:
        """Truncates the worlds of a worker that died in this step, and begins their next episodes in a new one."""
        self._warn_of(worker)
        arrays, seen, code = self.arrays, self._seen, worker.exit_code
        ended = [
            {
                "world": e,
                "episode": int(seen.episode[e]),
                "seed": episode_seed(self._seed, e, int(seen.episode[e])),
                "return": seen.returns[e].tolist(),
                "length": int(seen.length[e]),
                "world_error": f"worker {worker.index} died (exit code {code})",
            }
            for e in worker.worlds
        ]
        worker.restart()
        ended += self._begin([worker], {e: int(seen.episode[e]) + 1 for e in worker.worlds})
        rows = slice(worker.worlds.start, worker.worlds.stop)
        for array in (arrays.now.reward, arrays.now.elapsed, arrays.now.terminated, arrays.now.executed):
            array[rows] = 0
        arrays.now.truncated[rows] = ~seen.done[rows]
        for name in ("observation", "state", "bounds", "active"):
            getattr(arrays, f"final_{name}")[rows] = getattr(seen.now, name)[rows]
        return ended

    def _look(self) -> None:
        """Keeps what a worker that dies in the middle of the step could leave half written."""
        for name in ("observation", "state", "bounds", "active"):
            np.copyto(getattr(self._seen.now, name), getattr(self.arrays.now, name))
        for name in ("episode", "length", "returns", "done"):
            np.copyto(getattr(self._seen, name), getattr(self.arrays, name))

    def _mend(self) -> None:
        """Replaces workers that died, and those whose answer was interrupted: it may be half read, or never come."""
        for worker in self.workers:
            if not worker.sound:
                worker.restart()

    def _warn_of(self, worker: Worker) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        warnings.warn(
            f"Worker {worker.index} died (exit code {worker.exit_code}) and is restarted: its worlds {_span(worker)} "
            "are truncated and begin new episodes. Further deaths are told in `episodes` only, as world_error.",
            RuntimeWarning,
            stacklevel=5,
        )


def _names_main(opponents: Any) -> bool:
    members = opponents if isinstance(opponents, Mapping) else [opponents]
    return any(str(member).startswith("__main__:") for member in members)


def _span(worker: Worker) -> str:
    return f"{worker.worlds[0]}..{worker.worlds[-1]}"


def _release(workers: list[Worker], block: SharedBlock, owner: int) -> None:
    """Ends the processes, then removes the memory; not in a fork of the process that made them."""
    if os.getpid() != owner:
        return
    for worker in workers:
        worker.kill()
    block.close()
    block.unlink()


@contextlib.contextmanager
def _start_of_a_worker(needs_main: bool) -> Iterator[None]:
    """What a process inherits that is spawned inside: environment variables, deafness to Ctrl-C, and no `__main__`.

    Python would run the caller's script again in each worker. Unless an opponent is defined there, nothing of it is
    needed, so that it may come without `if __name__ == "__main__":`, or from stdin, and import what it likes.
    """
    with _spawning:
        before = {name: os.environ.get(name) for name in _WORKER_ENVIRONMENT}
        main = sys.modules["__main__"]
        os.environ.update(_WORKER_ENVIRONMENT)
        if not needs_main:
            sys.modules["__main__"] = ModuleType("__main__")
        try:
            with _without_interrupts():
                yield
        finally:
            sys.modules["__main__"] = main
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Blocks SIGINT in this thread, which a process that is spawned inside keeps for good. Windows cannot."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
