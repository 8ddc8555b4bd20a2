"""Embree's packets of coherent rays, through the C interface of the library that the package embreex brings.

embreex itself traces ray by ray and holds Python's lock. The library beside it (Embree 4, Apache 2.0) also traces 4, 8
or 16 rays at once; compiled loops call that by its address, without the lock. Where no such library is found,
`library` says why, and `envs.rendering.single_rays` does the work with embreex's own call.

Names, numbers and layouts are those of Embree's headers (rtcore_device.h, rtcore_scene.h, rtcore_ray.h): the same in
all of Embree 4.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

# Rows of a packet, one column per ray: RTCRay4, 8 or 16, then RTCHit4, 8 or 16.
ORIGIN, NEAR, DIRECTION, TIME, FAR, MASK, RAY_ID, RAY_FLAGS = 0, 3, 4, 7, 8, 9, 10, 11
NORMAL, U, V, PRIMITIVE, GEOMETRY = 12, 15, 16, 17, 18
# Embree 4.4 writes 21 rows, the last of them the ids of instances, of which a build may have more levels.
PACKET_ROWS = 36
ALIGNMENT = 64

_MAJOR = 4
_VERSION = 0  # RTCDeviceProperty, as the next
_NATIVE = {16: 34, 8: 33, 4: 32}
_TRIANGLES = 0  # RTC_GEOMETRY_TYPE_TRIANGLE
_INDEX, _VERTEX = 0, 1  # RTCBufferType
_UINT3, _FLOAT3 = 0x5003, 0x9003  # RTCFormat
# Without it, rays can slip between two triangles that share an edge; it costs nothing measurable.
_ROBUST = 1 << 2  # RTCSceneFlags
_COHERENT = 1 << 16  # RTCRayQueryFlags
_ALL_FEATURES = 0xFFFFFFFF  # RTCFeatureFlags

_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "rtcNewDevice": (ctypes.c_void_p, (ctypes.c_char_p,)),
    "rtcGetDeviceProperty": (ctypes.c_ssize_t, (ctypes.c_void_p, ctypes.c_int)),
    "rtcGetDeviceError": (ctypes.c_int, (ctypes.c_void_p,)),
    "rtcNewScene": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "rtcSetSceneFlags": (None, (ctypes.c_void_p, ctypes.c_int)),
    "rtcCommitScene": (None, (ctypes.c_void_p,)),
    "rtcReleaseScene": (None, (ctypes.c_void_p,)),
    "rtcNewGeometry": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)),
    "rtcSetNewGeometryBuffer": (
        ctypes.c_void_p,
        (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t),
    ),
    "rtcCommitGeometry": (None, (ctypes.c_void_p,)),
    "rtcAttachGeometry": (ctypes.c_uint, (ctypes.c_void_p, ctypes.c_void_p)),
    "rtcReleaseGeometry": (None, (ctypes.c_void_p,)),
}


class _Arguments(ctypes.Structure):
    """RTCIntersectArguments: two flags, then pointers that stay null; more of them than there are."""

    _fields_ = (("flags", ctypes.c_uint32), ("feature_mask", ctypes.c_uint32), ("pointers", ctypes.c_void_p * 8))


@dataclass(frozen=True)
class EmbreeLibrary:
    """The loaded library.

    Attributes:
        c: Its functions, typed.
        device: RTCDevice.
        version: Such as ``"4.4.0"``.
        lanes: Rays per packet: the most that the processor traces natively, 16 (AVX-512), 8 (AVX) or 4.
    """

    c: ctypes.CDLL
    device: int
    version: str
    lanes: int

    @property
    def intersect(self) -> int:
        """Address of rtcIntersect16, 8 or 4."""
        address = ctypes.cast(getattr(self.c, f"rtcIntersect{self.lanes}"), ctypes.c_void_p).value
        assert address is not None
        return address

    @property
    def natives(self) -> tuple[int, ...]:
        """The numbers of rays per packet that the processor traces natively, most first."""
        return tuple(lanes for lanes, known in _NATIVE.items() if self.c.rtcGetDeviceProperty(self.device, known))


def library_files() -> Iterator[Path]:
    """The library's files in embreex's wheels: beside the package on Linux and Windows, within it on macOS."""
    spec = find_spec("embreex")
    for root in map(Path, spec.submodule_search_locations or () if spec else ()):
        for folder, name in ((root.parent / "embreex.libs", "*embree4*"), (root / ".dylibs", "libembree4*")):
            yield from sorted(folder.glob(name))


@cache
def library() -> EmbreeLibrary | str:
    """The library, loaded once, or why there is none."""
    missing = "embreex brings no library of Embree 4 that could be found"
    for path in library_files():
        try:
            return _open(path)
        except (OSError, AttributeError, ValueError) as error:
            missing = f"{path.name} cannot be called: {error}"
    return missing


def _open(path: Path) -> EmbreeLibrary:
    c = ctypes.CDLL(str(path))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(c, name)
        function.restype, function.argtypes = result, arguments
    # One thread per tree: trees are built in parallel, and come out the same on any machine.
    device = c.rtcNewDevice(b"threads=1")
    if not device:
        raise ValueError(f"rtcNewDevice failed with error {c.rtcGetDeviceError(None)}")
    number = c.rtcGetDeviceProperty(device, _VERSION)
    version = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    if number // 10000 != _MAJOR:
        raise ValueError(f"it is Embree {version}, not {_MAJOR}")
    opened = EmbreeLibrary(c, device, version, 0)
    if not opened.natives:
        raise ValueError("it was built without packets of rays")
    return replace(opened, lanes=opened.natives[0])


# The last argument of what `EmbreeLibrary.intersect` points to.
ARGUMENTS = _Arguments(_COHERENT, _ALL_FEATURES)


class Bvh:
    """A scene's bounding volume hierarchy.

    Attributes:
        handle: RTCScene.
    """

    def __init__(self, library: EmbreeLibrary, triangles: NDArray[np.float32]) -> None:
        """Build the tree of (F, 3, 3) triangles; Python's lock is free meanwhile.

        Raises:
            MemoryError: Embree could not build it.
        """
        corners = np.ascontiguousarray(triangles, np.float32).reshape(-1, 3)
        faces = np.arange(len(corners), dtype=np.uint32).reshape(-1, 3)
        c = library.c
        geometry = c.rtcNewGeometry(library.device, _TRIANGLES)
        for kind, form, array in ((_VERTEX, _FLOAT3, corners), (_INDEX, _UINT3, faces)):
            target = c.rtcSetNewGeometryBuffer(geometry, kind, 0, form, 12, len(array))
            if not target:
                raise MemoryError(f"Embree has no memory for {len(array)} rows")
            ctypes.memmove(target, array.ctypes.data, array.nbytes)
        c.rtcCommitGeometry(geometry)
        self.handle = c.rtcNewScene(library.device)
        weakref.finalize(self, c.rtcReleaseScene, self.handle)
        c.rtcSetSceneFlags(self.handle, _ROBUST)
        c.rtcAttachGeometry(self.handle, geometry)
        c.rtcReleaseGeometry(geometry)
        c.rtcCommitScene(self.handle)
        error = c.rtcGetDeviceError(library.device)
        if error:
            raise MemoryError(f"Embree could not build a tree of {len(faces)} faces: error {error}")


def _intersect(context: Any, function: Any, valid: Any, scene: Any, packet: Any, arguments: Any) -> Any:
    """Call rtcIntersect4, 8 or 16 in a compiled loop: all arguments are addresses as int64.

    Args:
        context: Given by Numba.
        function: `EmbreeLibrary.intersect`.
        valid: Of `lanes` int32, -1 for a ray to trace and 0 for one to leave alone, aligned to `ALIGNMENT`.
        scene: `Bvh.handle`.
        packet: Of (`PACKET_ROWS`, lanes) words, aligned to `ALIGNMENT`.
        arguments: Of `ARGUMENTS`.
    """

    def call(target: Any, builder: ir.IRBuilder, _: Any, values: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer] * 4)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [builder.inttoptr(v, pointer) for v in values[1:]])
        return target.get_dummy_value()

    return types.void(*[types.int64] * 5), call


intersect: Any = intrinsic(_intersect)
