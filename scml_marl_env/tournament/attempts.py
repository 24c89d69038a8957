"""Worlds that are played on a backend, each in a process of its own, and again where that process or its worker died.

What tournaments, audits and collections of data share: a death says nothing of the world that it interrupted.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from scml_marl_env.tournament.backends import Backend, WorkerLost
from scml_marl_env.tournament.isolate import Lost, isolated

ATTEMPTS = 3
"""Times that a world is played whose process or worker dies before it is given up."""


def outcomes(
    function: Callable[[Any], Any],
    jobs: Iterable[Any],
    backend: Backend,
    time_limit: float | None = None,
    imports: Iterable[str] = (),
) -> Iterator[tuple[Any, Any]]:
    """Yields (job, function(job)) for every job, in the order in which they finish, or (job, `Lost`) where it is lost.

    Args:
        function: importable, and not from the script that runs; it and its results are picklable.
        jobs: hashable and picklable, each once.
        backend: where to play.
        time_limit: seconds for one job.
        imports: modules to import once for all jobs.
    """
    call = functools.partial(attempt, function, time_limit, tuple(imports))
    todo, attempts = list(jobs), dict[Any, int]()
    while todo:
        again = []
        for job, result in backend.run(call, todo):
            if isinstance(result, WorkerLost):
                result = Lost("death", str(result))
            attempts[job] = attempts.get(job, 0) + 1
            if isinstance(result, Lost) and result.kind == "death" and attempts[job] < ATTEMPTS:
                again.append(job)
            else:
                yield job, result
        todo = again


def attempt(function: Callable[[Any], Any], time_limit: float | None, imports: tuple[str, ...], job: Any) -> Any:
    """function(job) in a process of its own, or the `Lost` that came of it."""
    try:
        return isolated(function, job, time_limit, imports)
    except Lost as error:
        return error
