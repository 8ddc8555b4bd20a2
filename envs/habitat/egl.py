"""Detection of EGL devices, which habitat-sim needs for rendering."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_int, c_void_p
from ctypes.util import find_library

_CUDA_DEVICE = 0x323A  # EGL_CUDA_DEVICE_NV
_MOST = 64


class EglMissing(OSError):
    """There is no usable EGL library."""


def cuda_devices() -> tuple[list[int], int]:
    """CUDA device numbers that EGL can render with, and the number of all EGL devices (software ones included).

    Raises:
        EglMissing: libEGL is not installed or cannot list devices.
    """
    name = find_library("EGL") or "libEGL.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise EglMissing(f"libEGL cannot be loaded ({error})") from error
    library.eglGetProcAddress.restype = c_void_p
    query_devices = library.eglGetProcAddress(b"eglQueryDevicesEXT")
    query_attribute = library.eglGetProcAddress(b"eglQueryDeviceAttribEXT")
    if not query_devices or not query_attribute:
        raise EglMissing(f"{name} cannot list devices (no EGL_EXT_device_enumeration)")
    devices, count = (c_void_p * _MOST)(), c_int(0)
    list_devices = ctypes.CFUNCTYPE(c_int, c_int, POINTER(c_void_p), POINTER(c_int))(query_devices)
    if not list_devices(_MOST, devices, byref(count)):
        raise EglMissing(f"{name} failed to list its devices")
    attribute = ctypes.CFUNCTYPE(c_int, c_void_p, c_int, POINTER(c_void_p))(query_attribute)
    found = []
    for device in devices[: count.value]:
        number = c_void_p()
        if attribute(device, _CUDA_DEVICE, byref(number)):
            found.append(int(number.value or 0))
    return sorted(found), count.value


def default_device() -> int:
    """The ``gpu_device_id`` for habitat-sim on this machine: 0 where EGL knows CUDA device 0, else -1 (software)."""
    try:
        return 0 if 0 in cuda_devices()[0] else -1
    except EglMissing:
        return -1
