"""The meshes of a URDF file in the pose in which all joints are at 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from envs.scans.mesh_files import SUFFIXES


def rest_pose(path: Path) -> Iterator[tuple[Path, NDArray[np.float64]]]:
    """Yield the visual meshes of a URDF file with their (4, 4) matrices to the root link.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no URDF, or its joints form a loop.
    """
    if not path.is_file():
        raise FileNotFoundError(f"articulated object {path} does not exist")
    try:
        # Only numbers and file names are read, and nothing is expanded.
        robot = ElementTree.parse(path).getroot()
        joints = {child: (parent, _pose(joint)) for joint, parent, child in _joints(robot)}
        for link in robot.findall("link"):
            place = _to_root(str(link.get("name")), joints)
            for visual in link.findall("visual"):
                mesh = visual.find("geometry/mesh")
                if mesh is None or Path(str(mesh.get("filename"))).suffix.lower() not in SUFFIXES:
                    continue
                scale = np.diag([*_numbers(mesh.get("scale"), 1.0), 1.0])
                yield path.parent / str(mesh.get("filename")), place @ _pose(visual) @ scale
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def _joints(robot: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str, str]]:
    for joint in robot.findall("joint"):
        parent, child = joint.find("parent"), joint.find("child")
        if parent is None or child is None:
            raise ValueError(f"joint {joint.get('name')} lacks its parent or child")
        yield joint, str(parent.get("link")), str(child.get("link"))


def _to_root(link: str, joints: Mapping[str, tuple[str, NDArray[np.float64]]]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    for _ in range(len(joints) + 1):
        if link not in joints:
            return matrix
        link, step = joints[link]
        matrix = step @ matrix
    raise ValueError("its joints form a loop")


def _pose(element: ElementTree.Element) -> NDArray[np.float64]:
    """(4, 4) matrix of an element's ``origin``: xyz in metres, rpy in radians about fixed axes."""
    origin = element.find("origin")
    matrix = np.eye(4)
    if origin is None:
        return matrix
    roll, pitch, yaw = _numbers(origin.get("rpy"), 0.0)
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(a), math.sin(a)) for a in (roll, pitch, yaw))
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    matrix[:3, :3] = about_z @ about_y @ about_x
    matrix[:3, 3] = _numbers(origin.get("xyz"), 0.0)
    return matrix


def _numbers(text: str | None, default: float) -> tuple[float, float, float]:
    if text is None:
        return default, default, default
    x, y, z = (float(v) for v in text.split())
    return x, y, z
