"""How far every place to stand is from the nearest wall or drop, and which places hang together."""

from __future__ import annotations

import numpy as np

from envs._heightfield import kernel


@kernel
def _gap(x, z, columns, site, cell, nx):  # type: ignore[no-untyped-def]
    """Distance from (x, z) to a site: the box of fragment `site`, or for site < 0 the whole column -site - 1."""
    if site >= 0:
        x0, x1 = columns.box[site, 0], columns.box[site, 1]
        z0, z1 = columns.box[site, 2], columns.box[site, 3]
    else:
        c = -site - 1
        x0, z0 = (c % nx) * cell, (c // nx) * cell
        x1, z1 = x0 + cell, z0 + cell
    dx = max(x0 - x, x - x1, 0.0)
    dz = max(z0 - z, z - z1, 0.0)
    return np.sqrt(dx * dx + dz * dz)


@kernel
def _seed(i, columns, floor, cell, nx, nz, height, climb):  # type: ignore[no-untyped-def]
    """Nearest wall or drop in the 5 x 5 columns around node i: distance and site."""
    ix, iz = floor.column[i] % nx, floor.column[i] // nx
    x, z = (ix + 0.5) * cell, (iz + 0.5) * cell
    y = floor.height[i]
    best, site = np.inf, 0
    for jz in range(iz - 2, iz + 3):
        for jx in range(ix - 2, ix + 3):
            if jx < 0 or jz < 0 or jx >= nx or jz >= nz:
                continue  # the grid has a margin of empty columns, which are drops
            c = jz * nx + jx
            stands = False
            for j in range(floor.start[c], floor.start[c + 1]):
                stands = stands or abs(floor.height[j] - y) <= 2.0 * climb
            if stands:
                continue
            blocked = False
            for k in range(columns.start[c], columns.start[c + 1]):
                if columns.high[k] > y + climb and columns.low[k] < y + height:
                    blocked = True
                    gap = _gap(x, z, columns, k, cell, nx)
                    if gap < best:
                        best, site = gap, k
            if not blocked:
                gap = _gap(x, z, columns, -c - 1, cell, nx)
                if gap < best:
                    best, site = gap, -c - 1
    return best, site


@kernel
def _sweep(order, columns, floor, distance, site, cell, nx):  # type: ignore[no-untyped-def]
    """One pass of the vector distance transform: take over the site of an earlier neighbour where it is nearer."""
    for step in range(len(distance)):
        i = step if order > 0 else len(distance) - 1 - step
        x = (floor.column[i] % nx + 0.5) * cell
        z = (floor.column[i] // nx + 0.5) * cell
        for d in range(4):
            j = floor.near[i, d]
            if j < 0:
                continue
            for e in range(3):
                k = j
                if e < 2:  # the two diagonal neighbours reached through j
                    k = floor.near[j, e + 2 if d < 2 else e]
                if k >= 0 and distance[k] < np.inf and distance[k] < distance[i] + 2.0 * cell:
                    gap = _gap(x, z, columns, site[k], cell, nx)
                    if gap < distance[i]:
                        distance[i] = gap
                        site[i] = site[k]


@kernel
def clearance(columns, floor, cell, nx, nz, height, climb):  # type: ignore[no-untyped-def]
    """Distance in metres, (M,) float32, from each node of `floor` to the nearest wall or drop.

    Walls are the boxes of the fragments between `climb` and `height` above the floor: exact for walls along the axes,
    at most half a cell too wide for slanted ones. Sites spread from node to node (a vector distance transform).
    """
    count = len(floor.column)
    distance = np.full(count, np.inf)
    site = np.zeros(count, np.int32)
    for i in range(count):
        rim = False
        for d in range(4):
            j = floor.near[i, d]
            rim = rim or j < 0 or floor.near[j, 2 if d < 2 else 0] < 0 or floor.near[j, 3 if d < 2 else 1] < 0
        if rim:
            distance[i], site[i] = _seed(i, columns, floor, cell, nx, nz, height, climb)
    for _ in range(2):
        _sweep(1, columns, floor, distance, site, cell, nx)
        _sweep(-1, columns, floor, distance, site, cell, nx)
    return distance.astype(np.float32)


@kernel
def islands(free, near):  # type: ignore[no-untyped-def]
    """Connected components of the nodes where `free`: (M,) int32 labels from 0 by first node, -1 elsewhere."""
    label = np.full(len(free), -1, np.int32)
    stack = np.empty(len(free), np.int32)
    count = 0
    for seed in range(len(free)):
        if not free[seed] or label[seed] >= 0:
            continue
        label[seed] = count
        stack[0] = seed
        size = 1
        while size > 0:
            size -= 1
            i = stack[size]
            for d in range(4):
                j = near[i, d]
                if j >= 0 and free[j] and label[j] < 0:
                    label[j] = count
                    stack[size] = j
                    size += 1
        count += 1
    return label


@kernel
def fringe(label, near):  # type: ignore[no-untyped-def]
    """(M,) bool: nodes of an island and their eight neighbours, all that interpolation on the island needs."""
    keep = label >= 0
    for i in range(len(label)):
        if label[i] < 0:
            continue
        for d in range(4):
            j = near[i, d]
            if j >= 0:
                keep[j] = True
                for e in range(2):
                    k = near[j, e + 2 if d < 2 else e]
                    if k >= 0:
                        keep[k] = True
    return keep
