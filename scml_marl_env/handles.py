"""Handles: a bundle of arrays that compiled code takes as one pointer.

Numba hands a tuple of arrays to a function by value, some eight words an array, and counts references to each. A kernel
that takes the state of a simulator as a tuple of fifty arrays spends more on its calls than on its work, and takes
minutes to compile. A handle is the address of a block of memory in which the arrays' descriptions lie; `h.name` in a
kernel reads one. It borrows: whoever makes a handle keeps the arrays, which is why a `Handle` holds them.

Kernels do not see a difference: what works on `handle(bundle)` works on the bundle itself, which is also what a handle
is while numba is switched off (`NUMBA_DISABLE_JIT=1`).
"""

import contextlib
import mmap
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)

_LINE = 64
_NEAR = 3  # LLVM's word for the nearest cache
_WORDS_PER_FIELD = 24  # room for an array of up to eight axes


class HandleType(types.Type):
    """Numba's type of a handle: names and types of the fields in order."""

    def __init__(self, fields: tuple[tuple[str, types.Type], ...]) -> None:
        self.fields = fields
        super().__init__(name=f"Handle({', '.join(f'{name}: {kind}' for name, kind in fields)})")

    def place(self, name: str) -> int:
        """Index of a field, -1 if there is none."""
        return next((i for i, (field, _) in enumerate(self.fields) if field == name), -1)


class Handle:
    """The address of a named tuple of arrays, numbers and other handles, for compiled code; see the module."""

    # Numba's dispatcher looks for `_numba_type_` itself, a fifth of the time that asking `typeof` takes it.
    __slots__ = ("_memory", "_numba_type_", "address", "bundle")

    def __init__(self, bundle: Any) -> None:
        self.bundle = bundle
        kinds = [numba.typeof(item) for item in bundle]
        self._numba_type_ = HandleType(tuple(zip(bundle._fields, kinds, strict=True)))
        self._memory = np.zeros(_WORDS_PER_FIELD * len(kinds), np.int64)
        self.address = int(self._memory.ctypes.data)
        _store(self.address, tuple(bundle))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bundle, name)


def together(*bundles: Any) -> list[Any]:
    """The same named tuples of arrays, zeros, in one piece of memory on huge pages where the system has them.

    A step of a large fleet touches dozens of arrays at a place that has long left the caches; on pages of 4 KiB each
    touch would also have to look up its page.
    """
    arrays = [array for bundle in bundles for array in bundle]
    sizes = [-(-array.nbytes // _LINE) * _LINE for array in arrays]
    block = zeroed(sum(sizes))
    offsets = np.cumsum([0, *sizes])
    moved = iter(
        block[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
        for offset, array in zip(offsets, arrays, strict=False)
    )
    return [type(bundle)(*(next(moved) for _ in bundle)) for bundle in bundles]


def zeroed(n_bytes: int) -> np.ndarray:
    """uint8 (n,) of zeros, on huge pages where the system has them."""
    block = mmap.mmap(-1, max(1, n_bytes))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(block, np.uint8)[:n_bytes]


def handle(bundle: Any) -> Any:
    """A `Handle` of a named tuple; the tuple itself while numba is switched off."""
    return bundle if config.DISABLE_JIT else Handle(bundle)  # type: ignore[attr-defined]  # made at run time


@intrinsic
def _fetch(typing_context: Any, array: Any) -> Any:
    """`fetch`, compiled: one instruction a cache line."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        there = context.make_array(array)(context, builder, values[0])
        n_bytes = builder.mul(there.nitems, there.itemsize)
        start = builder.bitcast(there.data, cgutils.voidptr_t)
        flag, line = cgutils.int32_t, cgutils.intp_t(_LINE)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        with cgutils.for_range_slice(builder, cgutils.intp_t(0), n_bytes, line, cgutils.intp_t) as (offset, _):
            builder.call(ask, [builder.gep(start, [offset]), flag(0), flag(_NEAR), flag(1)])
        return context.get_dummy_value()

    return types.void(array), build


def _nothing(array: np.ndarray) -> None:
    """`fetch` while numba is switched off."""


fetch: Any = _nothing if config.DISABLE_JIT else _fetch  # type: ignore[attr-defined]  # made at run time
"""Asks the memory for a contiguous array, to have it near when it is used soon; nothing else happens."""


register_model(HandleType)(models.OpaqueModel)


@typeof_impl.register(Handle)
def _typeof(value: Handle, context: Any) -> HandleType:
    return value._numba_type_


@unbox(HandleType)
def _unbox(kind: HandleType, value: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(value, "address")
    pointer = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return NativeValue(pointer, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@infer_getattr
class _HandleAttributes(AttributeTemplate):
    key = HandleType

    def generic_resolve(self, kind: Any, name: Any) -> Any:  # type: ignore[override]  # numba's has no names
        place = kind.place(name)
        return None if place < 0 else kind.fields[place][1]


@lower_getattr_generic(HandleType)
def _get(context: Any, builder: Any, kind: HandleType, pointer: Any, name: str) -> Any:
    place = kind.place(name)
    member = _member(context, builder, tuple(field for _, field in kind.fields), pointer, place)
    n_before = len(builder.block.instructions)
    value = context.data_model_manager[kind.fields[place][1]].load_from_data_pointer(builder, member)
    # Nothing writes to a handle once it is made; unless LLVM knows, it reads the descriptions anew after every store.
    for instruction in builder.block.instructions[n_before:]:
        if instruction.opname == "load":
            instruction.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@intrinsic
def _store_fields(typing_context: Any, address: Any, bundle: Any) -> Any:
    """Writes the items of a tuple to memory, arrays without their owner."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = tuple(signature.args[1])
        pointer = builder.inttoptr(values[0], cgutils.voidptr_t)
        for i, kind in enumerate(kinds):
            item = builder.extract_value(values[1], i)
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value=item)
                array.meminfo = cgutils.get_null_value(array.meminfo.type)
                array.parent = cgutils.get_null_value(array.parent.type)
                item = array._getvalue()
            member = _member(context, builder, kinds, pointer, i)
            builder.store(context.data_model_manager[kind].as_data(builder, item), member)
        return context.get_dummy_value()

    return types.void(address, bundle), build


def _member(context: Any, builder: Any, kinds: tuple[types.Type, ...], pointer: Any, place: int) -> Any:
    """Where a field lies; every field has the same room."""
    offset = 8 * _WORDS_PER_FIELD * place
    there = builder.gep(pointer, [cgutils.intp_t(offset)])
    return builder.bitcast(there, context.data_model_manager[kinds[place]].get_data_type().as_pointer())


@numba.njit(cache=True)
def _store(address: int, bundle: Any) -> None:
    _store_fields(address, bundle)  # type: ignore[call-arg]  # numba passes the typing context
