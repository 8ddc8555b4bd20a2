"""Binary heap in two arrays, keys and items, for searches in compiled kernels."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from envs.navgrid.heightfield import fused_kernel


@fused_kernel
def push(keys: NDArray[Any], items: NDArray[Any], size: int, key: float, item: int) -> int:
    """Add to a binary heap in arrays that are long enough: the new size."""
    k = size
    while k > 0 and keys[(k - 1) // 2] > key:
        keys[k], items[k] = keys[(k - 1) // 2], items[(k - 1) // 2]
        k = (k - 1) // 2
    keys[k], items[k] = key, item
    return size + 1


@fused_kernel
def pop(keys: NDArray[Any], items: NDArray[Any], size: int) -> tuple[float, int, int]:
    """Take the least from a binary heap: key, item, new size."""
    key, item = keys[0], items[0]
    size -= 1
    last, moved = keys[size], items[size]
    k = 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= last:
            break
        keys[k], items[k] = keys[child], items[child]
        k = child
    keys[k], items[k] = last, moved
    return key, item, size
