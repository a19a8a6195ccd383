"""Instructions that numba can't be brought to emit from loops: popcount, and sixteen bits as the mask of sixteen lanes."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
Made = tuple[Any, Callable[..., Any]]


@intrinsic
def popcount(_: Any, word: Any) -> Made:
    """Ones of a 64-bit word."""
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic
def masked_sum(_: Any, halves: Any, vector: Any) -> Made:
    """``sum_j M_j g_j``.

    Args:
        _: numba's own, not passed by a caller.
        halves: bits as contiguous uint16 (m,), m a multiple of 4.
        vector: contiguous numbers (>= 16 m,).

    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits, numbers = _array(context, builder, signature, args, 0), _array(context, builder, signature, args, 1)
        number = numbers.data.type.pointee
        lanes = ir.VectorType(number, LANES)
        # Four sums in turn: an addition takes four cycles, and one can start in each.
        sums = [cgutils.alloca_once_value(builder, ir.Constant(lanes, [0.0] * LANES)) for _ in range(4)]

        def add(j: Any, total: Any) -> None:
            now = builder.load(total)
            builder.store(
                builder.select(_bits(builder, bits, j), builder.fadd(now, _lanes(builder, numbers, j)), now), total
            )

        length = builder.extract_value(bits.shape, 0)
        four = ir.Constant(length.type, 4)
        with cgutils.for_range_slice(builder, ir.Constant(length.type, 0), length, four) as (j, _):
            for u, total in enumerate(sums):
                add(builder.add(j, ir.Constant(j.type, u)), total)
        a, b, c, d = (builder.load(total) for total in sums)
        kind = {"float": "f32", "double": "f64"}[str(number)]
        reduce = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(number, [number, lanes]), f"llvm.vector.reduce.fadd.v{LANES}{kind}"
        )
        every = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        return builder.call(reduce, [ir.Constant(number, 0.0), every], fastmath=("reassoc",))

    return vector.dtype(halves, vector), build


@intrinsic
def masked_add(_: Any, halves: Any, number: Any, out: Any) -> Made:
    """``out_j += a M_j``.

    Args:
        _: numba's own, not passed by a caller.
        halves: bits as contiguous uint16 (m,).
        number: a.
        out: contiguous numbers of its dtype (>= 16 m,), added to in place.

    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits, numbers = _array(context, builder, signature, args, 0), _array(context, builder, signature, args, 2)
        lanes = ir.VectorType(args[1].type, LANES)
        same = ir.Constant(lanes, ir.Undefined)
        for lane in range(LANES):
            same = builder.insert_element(same, args[1], ir.Constant(ir.IntType(32), lane))
        with cgutils.for_range(builder, builder.extract_value(bits.shape, 0)) as loop:
            now = _lanes(builder, numbers, loop.index)
            new = builder.select(_bits(builder, bits, loop.index), builder.fadd(now, same), now)
            builder.store(new, _place(builder, numbers, loop.index, lanes), align=4)
        return context.get_dummy_value()

    return types.none(halves, number, out), build


def _array(context: Any, builder: Any, signature: Any, args: Any, which: int) -> Any:
    return context.make_array(signature.args[which])(context, builder, args[which])


def _bits(builder: Any, bits: Any, j: Any) -> Any:
    """Bits 16 j to 16 j + 15, one a lane."""
    return builder.bitcast(builder.load(builder.gep(bits.data, [j])), ir.VectorType(ir.IntType(1), LANES))


def _place(builder: Any, numbers: Any, j: Any, lanes: Any) -> Any:
    where = builder.gep(numbers.data, [builder.mul(j, ir.Constant(j.type, LANES))])
    return builder.bitcast(where, lanes.as_pointer())


def _lanes(builder: Any, numbers: Any, j: Any) -> Any:
    """Numbers 16 j to 16 j + 15."""
    lanes = ir.VectorType(numbers.data.type.pointee, LANES)
    # Aligned as a number is, not as a whole vector would be.
    return builder.load(_place(builder, numbers, j, lanes), align=4)
