"""Where the worlds of a tournament are played: one after the other, in worker processes, or on a cluster.

A backend only places calls. Each call plays its world in a process of its own (`isolate`), so results do not depend on
the backend, on its workers, or on which worlds they played before.
"""

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol

BACKENDS = ("serial", "loky", "ray")
# one thread each: workers share the cores between them
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


class WorkerLost(RuntimeError):
    """A worker died under a call (killed, out of memory, its machine gone); the call gave nothing."""


Outcome = tuple[Any, Any]
"""A job and the result of its call, or the exception that it ended with."""


class Backend(Protocol):
    """Plays jobs."""

    def run(self, call: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Outcome]:
        """Yields (job, call(job)) for every job, in the order in which they finish.

        Jobs are read as workers become free. Where a worker died, `WorkerLost` stands in place of the result, and other
        workers go on.
        """
        ...


class Serial:
    """One after the other."""

    def run(self, call: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Outcome]:
        for job in jobs:
            yield job, call(job)


class Loky:
    """Worker processes of this machine. Dead workers are replaced."""

    def __init__(self, workers: int | None = None) -> None:
        """Args: workers: processes; None takes one for each core."""
        _need("loky", "tournament")
        self.workers = workers or os.cpu_count() or 1

    def run(self, call: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Outcome]:
        import loky

        waiting, running = iter(jobs), dict[Future, Any]()
        executor = self._executor()
        try:
            while True:
                for job in waiting:
                    running[executor.submit(call, job)] = job
                    if len(running) == self.workers:
                        break
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                broken = False
                for future in finished:
                    job, error = running.pop(future), future.exception()
                    if isinstance(error, loky.BrokenProcessPool):
                        broken = True
                        yield job, WorkerLost(str(error))
                    elif error is not None:
                        raise error
                    else:
                        yield job, future.result()
                if broken:  # all that ran in it is lost, not only on the worker that died
                    for future, job in running.items():
                        yield job, WorkerLost(str(future.exception()))
                    running.clear()
                    executor.shutdown(kill_workers=True)
                    executor = self._executor()
        finally:
            executor.shutdown(kill_workers=True)

    def _executor(self) -> Any:
        import loky

        return loky.ProcessPoolExecutor(
            max_workers=self.workers, env=_ENVIRONMENT, timeout=None, initializer=_begin_worker
        )


class Ray:
    """A cluster of machines, or this one, by Ray."""

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        """Args: workers: calls at a time, None takes one a core; address: of a running cluster, None starts one."""
        _need("ray", "ray")
        self.workers = workers
        self.address = address

    def run(self, call: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Outcome]:
        import ray

        started = not ray.is_initialized()
        if started:
            ray.init(
                address=self.address,
                runtime_env={"env_vars": _ENVIRONMENT},
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
            )
        try:
            workers = self.workers or max(1, math.floor(ray.cluster_resources().get("CPU", 1)))
            remote = ray.remote(num_cpus=1, max_retries=0)(_call)
            shared = ray.put(call)
            waiting, running = iter(jobs), dict[Any, Any]()
            while True:
                for job in waiting:
                    running[remote.remote(shared, job)] = job
                    if len(running) == workers:
                        break
                if not running:
                    return
                (reference, *_), _ = ray.wait(list(running))
                job = running.pop(reference)
                try:
                    yield job, ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                    yield job, WorkerLost(str(error).strip().splitlines()[0])
        finally:
            if started:
                ray.shutdown()


def _begin_worker() -> None:
    """Readies a loky worker: its own way of starting processes is unknown to those that `isolate` forks, and it would
    outlive a parent that is killed."""
    multiprocessing.set_start_method("forkserver", force=True)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _call(call: Callable[[Any], Any], job: Any) -> Any:
    return call(job)


def backend(name: str, workers: int | None = None, address: str | None = None) -> Backend:
    """The backend of a name: "serial", "loky" or "ray".

    Raises:
        ValueError: for another name.
        ModuleNotFoundError: if its package is missing, with the command that installs it.
    """
    if name == "serial":
        return Serial()
    if name == "loky":
        return Loky(workers)
    if name == "ray":
        return Ray(workers, address)
    raise ValueError(f"No backend {name!r}; there are {', '.join(BACKENDS)}.")


def _need(package: str, extra: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"The backend {package!r} needs the package {package}: pip install 'scml_marl_env[{extra}]'"
        )
