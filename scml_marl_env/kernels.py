"""`kernel`, the decorator of every compiled function of this package, and the freshness of their cache.

Numba renews a cached function when its own file has changed, not when a function or constant that it calls from another
file has: after an update of a few files, callers would go on with the machine code of old callees. So whenever the text
of any kernel source differs from that of the last run, all cached kernels of the package are discarded here, before the
first one is loaded.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numba

_PACKAGE = Path(__file__).parent
# Modules without kernels whose constants kernels freeze.
_CONSTANTS = ("actions.py", "config.py", "view.py", "columns.py", "handles.py")

kernel = numba.njit(cache=True)
"""Compiles a function on its first call, and keeps the machine code. No fastmath: results are exact."""

unlocked = numba.njit(cache=True, nogil=True)
"""`kernel` for what Python calls from several threads: it holds no interpreter lock."""

_njit: Any = numba.njit  # its type does not know `_nrt`
lean = _njit(cache=True, _nrt=False)
"""`kernel` for functions that allocate nothing. Without reference counting, handing them a tuple of a dozen arrays
costs 25 ns instead of 500 (numba's counts are atomic, two for each array), and cores do not fight over the counters."""

inlined = _njit(cache=True, _nrt=False, forceinline=True)
"""`lean` for functions that become part of their callers: a call that hands on a view or a `Factory` costs 50 ns."""


def sources(package: Path = _PACKAGE) -> list[Path]:
    """Every file that machine code depends on."""
    return sorted(
        path
        for path in package.rglob("*.py")
        if path.name in _CONSTANTS or "scml_marl_env.kernels import" in path.read_text(encoding="utf-8")
    )


def discard_stale(package: Path = _PACKAGE) -> bool:
    """Deletes the cached kernels of `package` unless compiled from its sources as they are; whether it did."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sources(package):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    stamp = package / "__pycache__" / "kernels.sha256"
    try:
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return False
        for cached in package.rglob("__pycache__/*.nb[ci]"):
            cached.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=stamp.parent, delete=False) as file:
            file.write(digest.hexdigest())
        os.replace(file.name, stamp)
    except OSError:  # an installation that cannot be written to: its files only change all at once
        return False
    return True


discard_stale()
