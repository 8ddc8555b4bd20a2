"""Materials of Wavefront OBJ files (``.mtl``): diffuse colours, textures and the options of textures.

Source: the MTL format of Wavefront's Advanced Visualizer, https://paulbourke.net/dataformats/mtl/.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from configs.files import mistaken
from envs.scans.assets import find_asset
from envs.scene import Wrap

# Options of a map, and the largest number of their arguments; those of numbers may have fewer.
NUMBERS = {"-o": 3, "-s": 3, "-t": 3, "-mm": 2, "-bm": 1, "-boost": 1, "-texres": 1}
WORDS = ("-blendu", "-blendv", "-cc", "-clamp", "-imfchan", "-type")
SHOWN = 60  # characters of a line that is shown in a message
_LIBRARY = re.compile(r"^[ \t]*mtllib[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_USED = re.compile(r"^[ \t]*usemtl[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Texture:
    """A ``map_Kd``.

    Attributes:
        file: Its name as written.
        scale: ``-s``: texture coordinates are multiplied by it.
        offset: ``-o``: and this is added.
        wrap: What lies beyond the edges: ``-clamp on`` holds them.
    """

    file: str
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    wrap: Wrap = "repeat"


@dataclass(frozen=True)
class ObjMaterial:
    """A material: its base colour (r, g, b) in [0, 1], white where none is given, and its texture."""

    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: Texture | None = None


@dataclass(frozen=True)
class ObjMaterials:
    """The materials of an OBJ file.

    Attributes:
        materials: By name.
        problems: What could not be found, one line each.
    """

    materials: dict[str, ObjMaterial]
    problems: tuple[str, ...]


def read_materials(path: Path) -> ObjMaterials:
    """Read all material files that an OBJ file names.

    Raises:
        OSError: A file cannot be read.
    """
    text = "\n".join(lines_of(decoded(path.read_bytes())))
    materials: dict[str, ObjMaterial] = {}
    problems = []
    named = list(dict.fromkeys(_LIBRARY.findall(text)))
    for line in named:
        # A line may name several files, or one whose name has spaces.
        whole = find_asset(path.parent, line.strip('"'))
        for name in [line] if whole or line.startswith('"') else line.split():
            file = whole or find_asset(path.parent, name)
            if file is None:
                problems.append(f"file {name} is missing")
            else:
                found = dict(_parse(decoded(file.read_bytes()), problems))
                materials |= found
                if not found and (reason := mistaken(file)):
                    problems.append(f"file {name}: {reason}")
    used = [" ".join(name.split()) for name in dict.fromkeys(_USED.findall(text))]
    unknown = [name for name in used if name not in materials]
    if unknown and not problems:
        where = f"its material file{'s' if len(named) > 1 else ''}" if named else "a material file, as it names none"
        problems.append(f"material {unknown[0]} is not in {where}{_more(unknown)}")
    return ObjMaterials(materials, tuple(problems))


def decoded(data: bytes) -> str:
    """Text of an OBJ or MTL file: UTF-8, UTF-16 with its mark or, as older exporters write, Latin-1."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def lines_of(text: str) -> list[str]:
    """The lines of an OBJ or MTL file, whatever ends them; those that a backslash continues are joined."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\\\n", " ").split("\n")


def parse_texture(text: str) -> Texture | None:
    """Parse the text after ``map_Kd``: options, and a file's name, which may have spaces; None without a name."""
    parts = list(re.finditer(r"\S+", text))
    given = {"-s": [1.0, 1.0], "-o": [0.0, 0.0]}
    wrap: Wrap = "repeat"
    at = 0
    while at < len(parts) and (option := parts[at][0].lower()) in (*NUMBERS, *WORDS):
        at += 1
        if option in WORDS:
            clamped = option == "-clamp" and at < len(parts) and parts[at][0].lower() == "on"
            wrap = "clamp" if clamped else wrap
            at += 1
            continue
        first = at
        # The last word is the file's name, even where it is a number.
        while at < min(first + NUMBERS[option], len(parts) - 1) and _is_number(parts[at][0]):
            at += 1
        if option in given:
            values = [float(part[0]) for part in parts[first:at][:2]]
            given[option][: len(values)] = values
    if at >= len(parts):
        return None
    (su, sv), (ou, ov) = given["-s"], given["-o"]
    return Texture(text[parts[at].start() :].strip().strip('"'), (su, sv), (ou, ov), wrap)


def _parse(text: str, problems: list[str]) -> Iterator[tuple[str, ObjMaterial]]:
    """Yield the materials of one file; what is wrong with it is added to `problems`."""
    name: str | None = None
    material = ObjMaterial()
    for line in lines_of(text):
        key, rest = [*line.split(None, 1), "", ""][:2]
        if key.lower() == "newmtl":
            if name is not None:
                yield name, material
            name, material = " ".join(rest.split()), ObjMaterial()
        elif key.lower() == "kd":
            if (color := _color(rest.split())) is None:
                problems.append(f"the colour of material {name} is {rest.strip()[:SHOWN]!r}, which is not read")
            material = replace(material, color=color or material.color)
        elif key.lower() == "map_kd":
            material = replace(material, texture=parse_texture(rest) or material.texture)
    if name is not None:
        yield name, material


def _color(fields: list[str]) -> tuple[float, float, float] | None:
    """Three numbers, or one for all three; None for spectral files and CIE XYZ."""
    if not fields or len(fields) == 2 or not all(map(_is_number, fields[:3])):
        return None
    values = [float(word) for word in fields[:3]]
    return (values[0], values[0], values[0]) if len(values) == 1 else (values[0], values[1], values[2])


def _is_number(word: str) -> bool:
    try:
        return abs(float(word)) < 1e30
    except ValueError:
        return False


def _more(names: list[str]) -> str:
    return f", nor are {len(names) - 1} others" if len(names) > 1 else ""
