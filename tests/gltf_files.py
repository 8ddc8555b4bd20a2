"""Writes glTF files piece by piece, for tests: the libraries export only part of what the format allows."""

from __future__ import annotations

import base64
import io
import json
import struct

import numpy as np
from PIL import Image

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
UV = np.array([[0, 0], [1, 0.25], [0.5, 1]], np.float32)
COMPONENTS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


class Gltf:
    """A glTF file in the making."""

    def __init__(self):
        self.blob = b""
        self.header = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            **{key: [] for key in ("nodes", "meshes", "accessors", "bufferViews")},
        }

    def put(self, key, *values):
        self.header.setdefault(key, []).extend(values)
        return self

    def view(self, data, **more):
        self.header["bufferViews"].append({"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data), **more})
        self.blob += data + b"\0" * (-len(data) % 4)
        return len(self.header["bufferViews"]) - 1

    def accessor(self, array, **more):
        array = np.asarray(array)
        component = COMPONENTS[array.dtype.name]
        kind = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[1 if array.ndim == 1 else array.shape[1]]
        entry = {"bufferView": self.view(array.tobytes()), "componentType": component, "type": kind}
        entry |= {"count": len(array), "normalized": "int" in array.dtype.name, **more}
        self.header["accessors"].append(entry)
        return len(self.header["accessors"]) - 1

    def part(self, material=None, uv=None, color=None, positions=TRIANGLE, indices=(0, 1, 2), mode=None, **more):
        part = {"attributes": {"POSITION": self.accessor(positions, normalized=False)}}
        if indices is not None:
            given = np.asarray(indices)
            given = given if given.dtype.name.startswith("uint") else given.astype(np.uint32)
            part["indices"] = self.accessor(given, normalized=False)
        for name, values in {"TEXCOORD_0": uv, "COLOR_0": color, **more}.items():
            if values is not None:
                part["attributes"][name] = self.accessor(values)
        part |= {} if mode is None else {"mode": mode}
        return part if material is None else part | {"material": material}

    def alone(self, *parts, **node):
        """One node with one mesh of these parts."""
        return self.put("meshes", {"primitives": list(parts)}).put("nodes", {"mesh": 0, **node})

    def save(self, path):
        if path.suffix == ".glb":
            return self._binary(path)
        uri = "data:application/octet-stream;base64," + base64.b64encode(self.blob).decode()
        header = self.header | {"buffers": [{"byteLength": len(self.blob), "uri": uri}]}
        path.write_text(json.dumps(header))
        return path

    def _binary(self, path):
        header = json.dumps(self.header | {"buffers": [{"byteLength": len(self.blob)}]}).encode()
        header += b" " * (-len(header) % 4)
        chunks = struct.pack("<II", len(header), 0x4E4F534A) + header
        chunks += struct.pack("<II", len(self.blob), 0x004E4942) + self.blob
        path.write_bytes(b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks)
        return path


def textured(texture=0, factor=(1.0, 1.0, 1.0, 1.0), **more):
    return {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture, **more}, "baseColorFactor": list(factor)}}


def plain(*factor):
    return {"pbrMetallicRoughness": {"baseColorFactor": list(factor)}}


def quad():
    """Positions, texture coordinates (v down) and indices of a unit square that faces +Z, the picture upright."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    return positions, np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32), [0, 1, 2, 0, 2, 3]
