"""Navigation meshes made by Recast as habitat-sim makes them, through the system's library (Debian: ``librecast1``).

The steps and their order are those of habitat-sim's `PathFinder::build`; the settings that are not the agent's are its
defaults. The result is the content of a ``.navmesh`` file of version 2 with one tile.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.extent import check_grid_size
from envs.navgrid.navmesh_tiles import MOST_CORNERS, SET_MAGIC, TILE_MAGIC, WALK

LIBRARIES = ("Recast", "Detour")
INSTALL = "install Debian's or Ubuntu's librecast1 (apt-get install librecast1), or write the file with habitat-sim"
# habitat-sim's settings: voxels, regions in voxels, edges, detail.
CELL, CELL_HEIGHT = 0.05, 0.2
REGION, EDGE, EDGE_ERROR = 20.0, 12.0, 1.3
DETAIL, DETAIL_ERROR = 6.0, 1.0
# Recast's area of what may be walked on, and the edges of contours that it divides.
WALKABLE_AREA, DIVIDE_WALLS = 63, 1

_F, _I = ctypes.c_float, ctypes.c_int
_P = ctypes.c_void_p
# Functions by their names in versions 1.5.1 | 1.6.0, mangled as the C++ ABI of GCC and Clang has it, with results and
# arguments.
_FUNCTIONS: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    "alloc_solid": ("_Z18rcAllocHeightfieldv", _P, ()),
    "free_solid": ("_Z17rcFreeHeightFieldP13rcHeightfield", None, (_P,)),
    "create_solid": ("_Z19rcCreateHeightfieldP9rcContextR13rcHeightfieldiiPKfS4_ff", ctypes.c_bool,
                     (_P, _P, _I, _I, _P, _P, _F, _F)),
    "mark": ("_Z23rcMarkWalkableTrianglesP9rcContextfPKfiPKiiPh", None, (_P, _F, _P, _I, _P, _I, _P)),
    "rasterise": ("_Z20rcRasterizeTrianglesP9rcContextPKfiPKiPKhiR13rcHeightfieldi", ctypes.c_bool,
                  (_P, _P, _I, _P, _P, _I, _P, _I)),
    "filter_low": ("_Z35rcFilterLowHangingWalkableObstaclesP9rcContextiR13rcHeightfield", None, (_P, _I, _P)),
    "filter_ledges": ("_Z18rcFilterLedgeSpansP9rcContextiiR13rcHeightfield", None, (_P, _I, _I, _P)),
    "filter_height": ("_Z30rcFilterWalkableLowHeightSpansP9rcContextiR13rcHeightfield", None, (_P, _I, _P)),
    "alloc_open": ("_Z25rcAllocCompactHeightfieldv", _P, ()),
    "free_open": ("_Z24rcFreeCompactHeightfieldP20rcCompactHeightfield", None, (_P,)),
    "build_open": ("_Z25rcBuildCompactHeightfieldP9rcContextiiR13rcHeightfieldR20rcCompactHeightfield|"
                   "_Z25rcBuildCompactHeightfieldP9rcContextiiRK13rcHeightfieldR20rcCompactHeightfield", ctypes.c_bool,
                   (_P, _I, _I, _P, _P)),
    "erode": ("_Z19rcErodeWalkableAreaP9rcContextiR20rcCompactHeightfield", ctypes.c_bool, (_P, _I, _P)),
    "distances": ("_Z20rcBuildDistanceFieldP9rcContextR20rcCompactHeightfield", ctypes.c_bool, (_P, _P)),
    "regions": ("_Z14rcBuildRegionsP9rcContextR20rcCompactHeightfieldiii", ctypes.c_bool, (_P, _P, _I, _I, _I)),
    "alloc_contours": ("_Z17rcAllocContourSetv", _P, ()),
    "free_contours": ("_Z16rcFreeContourSetP12rcContourSet", None, (_P,)),
    "contours": ("_Z15rcBuildContoursP9rcContextR20rcCompactHeightfieldfiR12rcContourSeti|"
                 "_Z15rcBuildContoursP9rcContextRK20rcCompactHeightfieldfiR12rcContourSeti", ctypes.c_bool,
                 (_P, _P, _F, _I, _P, _I)),
    "alloc_mesh": ("_Z15rcAllocPolyMeshv", _P, ()),
    "free_mesh": ("_Z14rcFreePolyMeshP10rcPolyMesh", None, (_P,)),
    "mesh": ("_Z15rcBuildPolyMeshP9rcContextR12rcContourSetiR10rcPolyMesh|"
             "_Z15rcBuildPolyMeshP9rcContextRK12rcContourSetiR10rcPolyMesh", ctypes.c_bool, (_P, _P, _I, _P)),
    "alloc_detail": ("_Z21rcAllocPolyMeshDetailv", _P, ()),
    "free_detail": ("_Z20rcFreePolyMeshDetailP16rcPolyMeshDetail", None, (_P,)),
    "detail": ("_Z21rcBuildPolyMeshDetailP9rcContextRK10rcPolyMeshRK20rcCompactHeightfieldffR16rcPolyMeshDetail",
               ctypes.c_bool, (_P, _P, _P, _F, _F, _P)),
    "create_tile": ("_Z19dtCreateNavMeshDataP21dtNavMeshCreateParamsPPhPi", ctypes.c_bool, (_P, _P, _P)),
    "free": ("_Z6dtFreePv", None, (_P,)),
}  # fmt: skip


class _Context(ctypes.Structure):
    """rcContext with logging and timing off, so that none of its virtual functions is called."""

    _fields_ = (("table", _P), ("log", ctypes.c_bool), ("timer", ctypes.c_bool), ("room", ctypes.c_byte * 64))


class _PolyMesh(ctypes.Structure):
    """rcPolyMesh."""

    _fields_ = (
        ("verts", _P), ("polys", _P), ("regions", _P), ("flags", _P), ("areas", _P),
        ("nverts", _I), ("npolys", _I), ("most", _I), ("corners", _I), ("low", _F * 3), ("high", _F * 3),
        ("cell", _F), ("cell_height", _F), ("border", _I), ("error", _F),
    )  # fmt: skip


class _Detail(ctypes.Structure):
    """rcPolyMeshDetail."""

    _fields_ = (("meshes", _P), ("verts", _P), ("tris", _P), ("nmeshes", _I), ("nverts", _I), ("ntris", _I))


class _TileParams(ctypes.Structure):
    """dtNavMeshCreateParams."""

    _fields_ = (
        ("verts", _P), ("nverts", _I), ("polys", _P), ("flags", _P), ("areas", _P), ("npolys", _I), ("corners", _I),
        ("detail_meshes", _P), ("detail_verts", _P), ("ndetail_verts", _I), ("detail_tris", _P), ("ndetail_tris", _I),
        ("off_mesh", _P * 6), ("noff_mesh", _I),
        ("user", ctypes.c_uint), ("x", _I), ("y", _I), ("layer", _I), ("low", _F * 3), ("high", _F * 3),
        ("height", _F), ("radius", _F), ("climb", _F), ("cell", _F), ("cell_height", _F), ("tree", ctypes.c_bool),
    )  # fmt: skip


@dataclass(frozen=True)
class Agent:
    """For whom a mesh is made.

    Attributes:
        radius: Metres; Recast rounds it up to voxels of 5 cm.
        height: Metres; rounded up to 20 cm.
        climb: Highest step in metres; rounded down to 20 cm.
        max_slope: Steepest floor in degrees.
    """

    radius: float = 0.1
    height: float = 1.5
    climb: float = 0.2
    max_slope: float = 45.0


@lru_cache(1)
def _library() -> dict[str, Any]:
    """Recast's and Detour's functions.

    Raises:
        ImportError: The libraries are absent or of another version; the message says what to do.
    """
    opened = []
    for name in LIBRARIES:
        file = find_library(name)
        if file is None:
            raise ImportError(f"lib{name} is not installed; {INSTALL}")
        opened.append(ctypes.CDLL(file))
    functions = {}
    for ours, (theirs, result, arguments) in _FUNCTIONS.items():
        names = theirs.split("|")
        function = next((getattr(library, n) for library in opened for n in names if hasattr(library, n)), None)
        if function is None:
            raise ImportError(f"the installed Recast has no function {names[0]}; versions 1.5.1 and 1.6.0 are known")
        function.restype, function.argtypes = result, arguments
        functions[ours] = function
    return functions


def available() -> bool:
    """Whether the libraries are installed."""
    try:
        _library()
    except ImportError:
        return False
    return True


def build(triangles: NDArray[np.floating[Any]], name: str, agent: Agent) -> bytes:
    """Make a navigation mesh.

    Args:
        triangles: (F, 3, 3) corners in metres, +Y up, of all that carries or stops the agent.
        name: Of the scene, for messages.
        agent: For whom.

    Returns:
        The content of a ``.navmesh`` file.

    Raises:
        ImportError: Recast is not installed.
        ValueError: The scene is too large, or has no floor for this agent.
    """
    library = _library()
    check_grid_size(np.asarray(triangles, np.float64), CELL, name)
    tile = _tile(library, np.ascontiguousarray(triangles, np.float32), name, agent)
    return _file(tile, agent)


@contextmanager
def _own(library: dict[str, Any], kind: str) -> Iterator[Any]:
    """One of Recast's objects, freed at the end."""
    handle = library[f"alloc_{kind}"]()
    try:
        yield handle
    finally:
        library[f"free_{kind}"](handle)


def _done(success: bool, step: str, name: str) -> None:
    if not success:
        raise ValueError(f"scene {name}: Recast could not {step}")


def _tile(library: dict[str, Any], triangles: NDArray[np.float32], name: str, agent: Agent) -> bytes:
    """One tile over the whole scene, as Detour loads it."""
    context = _Context()
    run = {key: _bound(function, context) for key, function in library.items()}
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    columns, rows = (int((high[k] - low[k]) / np.float32(CELL) + np.float32(0.5)) for k in (0, 2))
    _done(min(columns, rows) > 0, "lay voxels over it: it is narrower than one", name)
    height = math.ceil(np.float32(agent.height) / np.float32(CELL_HEIGHT))
    climb = math.floor(np.float32(agent.climb) / np.float32(CELL_HEIGHT))
    radius = math.ceil(np.float32(agent.radius) / np.float32(CELL))
    count = len(triangles)
    index = np.arange(3 * count, dtype=np.int32)
    area = np.zeros(count, np.uint8)
    with _own(library, "open") as opened:
        with _own(library, "solid") as solid:
            box = low.ctypes.data, high.ctypes.data
            _done(run["create_solid"](solid, columns, rows, *box, CELL, CELL_HEIGHT), "make its voxels", name)
            soup = triangles.ctypes.data, 3 * count, index.ctypes.data
            run["mark"](agent.max_slope, *soup, count, area.ctypes.data)
            _done(run["rasterise"](*soup, area.ctypes.data, count, solid, climb), "fill its voxels", name)
            run["filter_low"](climb, solid)
            run["filter_ledges"](height, climb, solid)
            run["filter_height"](height, solid)
            _done(run["build_open"](height, climb, solid, opened), "find open space", name)
        _done(run["erode"](radius, opened), "erode the floor", name)
        _done(run["distances"](opened), "measure the floor", name)
        _done(run["regions"](opened, 0, int(REGION**2), int(REGION**2)), "divide the floor", name)
        with _own(library, "contours") as contours, _own(library, "mesh") as mesh, _own(library, "detail") as detail:
            # The edge is in voxels, but habitat-sim divides by their size once more.
            longest = int(np.float32(EDGE) / np.float32(CELL))
            _done(run["contours"](opened, EDGE_ERROR, longest, contours, DIVIDE_WALLS), "outline the floor", name)
            _done(run["mesh"](contours, MOST_CORNERS, mesh), "make polygons", name)
            sample = np.float32(CELL) * np.float32(DETAIL), np.float32(CELL_HEIGHT) * np.float32(DETAIL_ERROR)
            _done(run["detail"](mesh, opened, *map(float, sample), detail), "measure the floor's height", name)
            return _detour_tile(library, _PolyMesh.from_address(mesh), _Detail.from_address(detail), name, agent)


def _bound(function: Any, context: _Context) -> Any:
    """A function of Recast's with the context as its first argument."""
    return lambda *arguments: function(ctypes.addressof(context), *arguments)


def _detour_tile(library: dict[str, Any], mesh: _PolyMesh, detail: _Detail, name: str, agent: Agent) -> bytes:
    if not mesh.npolys:
        raise ValueError(
            f"scene {name}: Recast finds no floor for an agent of radius {agent.radius} m and height {agent.height} m; "
            "check that the mesh is in metres with +Y up and its floor faces wound upwards"
        )
    areas = np.ctypeslib.as_array(ctypes.cast(mesh.areas, ctypes.POINTER(ctypes.c_uint8)), (mesh.npolys,))
    flags = np.where(areas == WALKABLE_AREA, WALK, 0).astype(np.uint16)
    ground = np.zeros(mesh.npolys, np.uint8)
    params = _TileParams(
        verts=mesh.verts, nverts=mesh.nverts, polys=mesh.polys, flags=flags.ctypes.data, areas=ground.ctypes.data,
        npolys=mesh.npolys, corners=mesh.corners, detail_meshes=detail.meshes, detail_verts=detail.verts,
        ndetail_verts=detail.nverts, detail_tris=detail.tris, ndetail_tris=detail.ntris, low=mesh.low, high=mesh.high,
        height=agent.height, radius=agent.radius, climb=agent.climb, cell=CELL, cell_height=CELL_HEIGHT, tree=True,
    )  # fmt: skip
    data, size = _P(), _I()
    created = library["create_tile"](ctypes.addressof(params), ctypes.addressof(data), ctypes.addressof(size))
    _done(created, "put the polygons into a tile", name)
    try:
        return ctypes.string_at(data, size.value)
    finally:
        library["free"](data)


def _file(tile: bytes, agent: Agent) -> bytes:
    """The content of a ``.navmesh`` file with one tile, as habitat-sim's `saveNavMesh` writes it."""
    assert tile[:4] == TILE_MAGIC
    (polygons,) = struct.unpack_from("<i", tile, 24)
    low, high = (struct.unpack_from("<3f", tile, at) for at in (72, 84))
    width, depth = (np.float32(high[k]) - np.float32(low[k]) for k in (0, 2))
    bits = max(polygons - 1, 0).bit_length()
    settings = [
        CELL, CELL_HEIGHT, agent.height, agent.radius, agent.climb, agent.max_slope, REGION, REGION, EDGE, EDGE_ERROR,
        float(MOST_CORNERS), DETAIL, DETAIL_ERROR,
    ]  # fmt: skip
    return b"".join(
        [
            SET_MAGIC,
            struct.pack("<2i", 2, 1),
            struct.pack("<5f2i", *low, width, depth, 1, polygons),
            struct.pack("<13f4?", *settings, True, True, True, False),
            # The reference of the first tile: its salt, 1, above the bits of polygons.
            struct.pack("<Ii", 1 << bits, len(tile)),
            tile,
        ]
    )
