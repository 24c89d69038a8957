"""A function call in a process of its own: it cannot hang, crash, leak into or slow down the calls that follow.

Every world of a tournament is such a call, whatever backend places it. The process is forked from a server that has
imported what worlds need and done nothing else, so class attributes that an agent changes, memory that it loses and
threads that it leaves end with its world. The server starts with a fixed hash seed: agents that iterate over sets of
strings play the same game in every process.
"""

import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

HASH_SEED = "0"
_READY = ("scml.std", "scml.oneshot", "scml_marl_env.tournament.play")


class Lost(RuntimeError):
    """The call gave no result. `kind` is "exception", "timeout" or "death" (of its process); `seconds` it had taken."""

    def __init__(self, kind: str, detail: str, seconds: float = 0.0) -> None:
        super().__init__(kind, detail, seconds)
        self.kind, self.detail, self.seconds = kind, detail, seconds

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


def isolated(
    function: Callable[[Any], Any], argument: Any, time_limit: float | None = None, imports: Iterable[str] = ()
) -> Any:
    """Returns function(argument), called in a new process; both, and the result, have to be picklable.

    Args:
        function: importable, and not from the script that runs.
        argument: of it.
        time_limit: seconds of wall-clock time, after which the process is killed; None waits for ever.
        imports: further modules to import once for all calls. Only the call that starts the server decides.

    Raises:
        Lost: if the function raised, took too long, or its process died.
    """
    context, start = _server(tuple(imports)), time.perf_counter()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, function, argument), daemon=True)
    with _without_main():
        process.start()
    theirs.close()
    try:
        if not ours.poll(time_limit):
            raise Lost("timeout", f"not done within {time_limit:g} seconds", time.perf_counter() - start)
        succeeded, result = ours.recv()
    except EOFError:
        process.join()
        detail = f"its process ended with exit code {process.exitcode}"
        raise Lost("death", detail, time.perf_counter() - start) from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if not succeeded:
        raise Lost("exception", result, time.perf_counter() - start)
    return result


def _server(imports: tuple[str, ...]) -> Any:
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_READY, *imports])
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = HASH_SEED
    try:
        forkserver.ensure_running()  # starts one unless one is alive
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps a new process from importing the script that runs, which may take longer than a world."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _child(connection: Connection, function: Callable[[Any], Any], argument: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = True, function(argument)
    except BaseException as error:
        answer = False, "".join(traceback.format_exception(error, limit=-6)).strip()
    connection.send(answer)
    connection.close()


def _end_with_parent() -> None:
    """A killed worker must not leave its world running."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
