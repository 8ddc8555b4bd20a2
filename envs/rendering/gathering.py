"""SIMD gather and copy for compiled loops: rows of a table looked up for many pixels at once, as columns.

Compilers load and store word by word here, because they cannot prove that source and target do not overlap. Rows are
loaded whole and transposed in registers, which takes a fifth of the time. Written in LLVM's own vectors, it runs on any
processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import raw_memcpy
from numba.extending import intrinsic

# Rows that are looked up at once.
GROUP = 16

_WORD, _ADDRESS = ir.IntType(32), ir.IntType(64)


def _shuffle(builder: ir.IRBuilder, one: Any, other: Any, places: Sequence[int]) -> Any:
    """A vector of these places of two vectors one after the other."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_WORD, len(places)), list(places)))


def _transpose(builder: ir.IRBuilder, rows: list[Any]) -> list[Any]:
    """Transpose 16 x 16 words, or 8 x 16 as two squares: swap halves of ever smaller blocks."""
    step = len(rows) // 2
    while step:
        for i in (i for i in range(len(rows)) if not i & step):
            one, other = rows[i], rows[i | step]
            upper = [GROUP + (x ^ step) if x & step else x for x in range(GROUP)]
            lower = [GROUP + x if x & step else x | step for x in range(GROUP)]
            rows[i], rows[i | step] = _shuffle(builder, one, other, upper), _shuffle(builder, one, other, lower)
        step //= 2
    return rows


def _gather(words: int) -> Any:
    """The compiled function that gathers `GROUP` rows of 8 or 16 words."""

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Any) -> Any:
        table, indices, columns, stride = values
        row, column = ir.VectorType(_WORD, words), ir.VectorType(_WORD, GROUP)
        numbers = builder.inttoptr(indices, _WORD.as_pointer())
        rows = []
        for k in range(GROUP):
            number = builder.sext(builder.load(builder.gep(numbers, [ir.Constant(_WORD, k)])), _ADDRESS)
            address = builder.add(table, builder.mul(number, ir.Constant(_ADDRESS, 4 * words)))
            rows.append(builder.load(builder.inttoptr(address, row.as_pointer()), align=4))
        if words < GROUP:
            rows = [_shuffle(builder, rows[k], rows[k + words], range(GROUP)) for k in range(words)]
        for k, made in enumerate(_transpose(builder, rows)):
            address = builder.add(columns, builder.mul(stride, ir.Constant(_ADDRESS, k)))
            builder.store(made, builder.inttoptr(address, column.as_pointer()), align=4)
        return context.get_dummy_value()

    def gather(context: Any, table: Any, indices: Any, columns: Any, stride: Any) -> Any:
        """Gather `GROUP` rows in a compiled loop; all arguments are int64.

        Args:
            context: Given by Numba.
            table: Address of (K, `words`) words.
            indices: Address of (`GROUP`,) int32.
            columns: Address of the first result; the k-th words of all rows go to `columns + k * stride`.
            stride: Bytes.
        """
        return types.void(*[types.int64] * 4), generate

    return intrinsic(gather)


gather_8: Any = _gather(8)
gather_16: Any = _gather(16)


def _copy(context: Any, target: Any, source: Any, words: Any) -> Any:
    """Copy words in a compiled loop, from and to addresses that do not overlap; all arguments are int64.

    Args:
        context: Given by Numba.
        target: Address.
        source: Address.
        words: How many; best a number that the compiler knows.
    """

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        raw_memcpy(builder, builder.inttoptr(values[0], byte), builder.inttoptr(values[1], byte), values[2], 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


copy_words: Any = intrinsic(_copy)
