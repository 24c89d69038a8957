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
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

_PACKAGE = Path(__file__).parent
# Modules without kernels whose constants kernels freeze.
_CONSTANTS = ("actions.py", "config.py", "view.py", "columns.py", "handles.py")
_ENVIRONMENT = "_ZN08NumbaEnv"  # begins numba's names of the variables that hold a function's constants


class _Part(JITCodeLibrary):
    """The code of a function that only kernels call: handed on to them as it is, and optimised there, not here.

    Numba's own library optimises and translates a function with all that it calls, and whatever calls it does so once
    more: a chain of ten calls costs ten times the deepest function.
    """

    def finalize(self) -> None:
        """Links what is called; makes machine code of an empty stand-in that numba can load and cache."""
        self._raise_if_finalized()
        module = self._final_module
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        for function in module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"  # callers may each have a copy
        self._shared_module = module
        text = str(self._codegen._create_empty_module(self.name))
        for variable in module.global_variables:
            if variable.name.startswith(_ENVIRONMENT):  # numba writes to it
                text += f'@"{variable.name}" = common global ptr null\n'
        self._final_module = llvm.parse_assembly(text)
        self._finalize_final_module()


class _PartCompiler(Compiler):
    """Numba's compiler with a `_Part` as its library."""

    def compile_extra(self, func: Any) -> Any:
        self.state.library = _Part(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


def _njit(**options: Any) -> Any:
    """A decorator that compiles a function as a part of the kernels that call it, and for callers in Python as a whole.

    Kernels share one instance for integers of any width, constant or not. Numba itself makes one for each constant that
    a call names and each width that an array may have, and of everything that is called in turn.
    """
    njit: Any = numba.njit  # its type does not know all options
    options |= {"cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}

    def decorate(function: Any) -> Any:
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # made at run time
            return function
        part = njit(pipeline_class=_PartCompiler, no_cpython_wrapper=True, **options)(_renamed(function))
        whole = njit(**options)(function)
        resolve = part.get_call_template
        whole.get_call_template = lambda args, kws: resolve(
            tuple(map(_widened, args)), {name: _widened(kind) for name, kind in kws.items()}
        )
        whole.get_overload = part.get_overload
        return whole

    return decorate


def _renamed(function: Any) -> Any:
    """The function by another name, under which numba caches its code."""
    renamed = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    renamed.__module__, renamed.__qualname__ = function.__module__, f"{function.__qualname__}_part"
    return renamed


def _widened(kind: Any) -> Any:
    """Numba's type of a value as a parameter has it."""
    kind = types.unliteral(kind)
    return types.int64 if getattr(kind, "signed", False) else kind


kernel = _njit()
"""Compiles a function on its first call, and keeps the machine code. No fastmath: results are exact. No division of
floats asks whether it is by zero, which none is: without the compiler, in `tests/world/test_without_jit.py`, one would
raise."""

unlocked = _njit(nogil=True)
"""`kernel` for what Python calls from several threads: it holds no interpreter lock."""

lean = _njit(_nrt=False)
"""`kernel` for functions that allocate nothing. Without reference counting, handing them a tuple of a dozen arrays
costs 25 ns instead of 500 (numba's counts are atomic, two for each array), and cores do not fight over the counters."""

inlined = _njit(_nrt=False, forceinline=True)
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
