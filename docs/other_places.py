"""Two furnished scenes of another generator than the apartments, for evaluation: ``python docs/other_places.py DIR``.

``mosaic.glb``: a flat of four rooms with right angles; every surface has a mosaic of random colours, and nothing is
shaded. ``loft.glb``: a hexagonal hall with slanted partitions and round furniture, in plain colours and cloudy noise,
lit by one sun. They share no code with the apartments' generator, and nothing is trained on them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

Painter = Callable[[np.random.Generator], Image.Image]
SUN = np.array([0.4, 0.8, 0.45])


def mosaic(rng: np.random.Generator) -> Image.Image:
    """Square fields of random colours, or of shades of one."""
    count = int(rng.choice([4, 8, 16]))
    colors = rng.integers(0, 256, (count, count, 3))
    if rng.random() < 0.5:
        colors = (rng.integers(0, 256, 3) + 0.35 * (colors - 128)).clip(0, 255)
    return Image.fromarray(colors.astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)


def clouds(rng: np.random.Generator) -> Image.Image:
    """One colour with soft clouds."""
    small = rng.integers(-30, 31, (int(rng.choice([1, 4, 12])),) * 2 + (1,)) + rng.integers(60, 230, 3)
    return Image.fromarray(np.clip(small, 0, 255).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)


class Place:
    """A glTF scene that grows part by part, y up, in metres.

    Args:
        seed: Of textures and furniture.
        paint: Makes a texture.
        shaded: Whether a sun shades the faces; else they show their texture as it is.
    """

    def __init__(self, seed: int, paint: Painter, shaded: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.paint, self.shaded = paint, shaded
        self.scene = trimesh.Scene()

    def add(self, mesh: trimesh.Trimesh, x: float, y: float, z: float, turn: float = 0.0) -> None:
        """Put a mesh at a place, turned about the vertical, in a texture of its own."""
        mesh = mesh.copy()
        mesh.apply_transform(trimesh.transformations.rotation_matrix(turn, (0, 1, 0)))
        mesh.apply_translation((x, y, z))
        faces = mesh.triangles.reshape(-1, 3)
        normals = np.repeat(mesh.face_normals, 3, axis=0)
        side = np.abs(normals).argmax(axis=1)
        uv = np.stack([np.where(side == 0, faces[:, 2], faces[:, 0]), np.where(side == 1, faces[:, 2], faces[:, 1])], 1)
        image = self.paint(self.rng)
        light = 0.45 + 0.55 * np.maximum(normals @ (SUN / np.linalg.norm(SUN)), 0.0) if self.shaded else None
        for level in [None] if light is None else np.unique(light.round(2)):
            chosen = np.ones(len(faces), bool) if level is None else light.round(2) == level
            part = trimesh.Trimesh(faces[chosen], np.arange(int(chosen.sum())).reshape(-1, 3), process=False)
            factor = 1.0 if level is None else level
            texture = Image.fromarray((np.asarray(image) * factor).astype(np.uint8))
            material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture, doubleSided=True)
            part.visual = trimesh.visual.TextureVisuals(uv=uv[chosen] / 1.3, material=material)
            self.scene.add_geometry(part)

    def box(self, size: Sequence[float], x: float, y: float, z: float, turn: float = 0.0) -> None:
        """A box on height y."""
        self.add(trimesh.creation.box(size), x, y + size[1] / 2.0, z, turn)

    def drum(self, radius: float, height: float, x: float, y: float, z: float) -> None:
        """An upright cylinder on height y."""
        mesh = trimesh.creation.cylinder(radius, height, sections=16)
        mesh.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
        self.add(mesh, x, y + height / 2.0, z)

    def ball(self, radius: float, x: float, y: float, z: float) -> None:
        """A sphere about height y."""
        self.add(trimesh.creation.icosphere(2, radius), x, y, z)

    def floor_and_ceiling(self, width: float, depth: float, x: float, z: float, height: float) -> None:
        """A floor, and a ceiling with ribs on top, so that nobody is placed on the roof."""
        self.box((width, 0.1, depth), x, -0.1, z)
        self.box((width, 0.1, depth), x, height, z)
        ribs = [trimesh.creation.box((0.02, 0.6, depth)) for _ in np.arange(0.0, width, 0.15)]
        for index, rib in enumerate(ribs):
            rib.apply_translation((0.15 * index - width / 2, 0.0, 0.0))
        self.add(trimesh.util.concatenate(ribs), x, height + 0.4, z)

    def table(self, x: float, z: float, turn: float) -> None:
        """A table with a vase and two stools."""
        c, s = np.cos(turn), np.sin(turn)
        self.box((1.2, 0.05, 0.7), x, 0.7, z, turn)
        for a in (-0.5, 0.5):
            for b in (-0.28, 0.28):
                self.box((0.06, 0.7, 0.06), x + c * a + s * b, 0.0, z - s * a + c * b, turn)
        self.drum(0.07, 0.25, x, 0.75, z)
        for b in (-0.75, 0.75):
            self.box((0.4, 0.45, 0.4), x + s * b, 0.0, z + c * b, turn)
            self.box((0.4, 0.45, 0.06), x + s * b * 1.25, 0.45, z + c * b * 1.25, turn)

    def sofa(self, x: float, z: float, turn: float) -> None:
        """A seat with a back and arms."""
        c, s = np.cos(turn), np.sin(turn)
        self.box((1.7, 0.42, 0.8), x, 0.0, z, turn)
        self.box((1.7, 0.45, 0.2), x - s * 0.3, 0.42, z - c * 0.3, turn)
        for a in (-0.95, 0.95):
            self.box((0.2, 0.6, 0.8), x + c * a, 0.0, z - s * a, turn)

    def shelf(self, x: float, z: float, turn: float) -> None:
        """Boards with books."""
        for y in (0.0, 0.45, 0.9, 1.35, 1.8):
            self.box((0.9, 0.03, 0.3), x, y, z, turn)
            if y < 1.8:
                self.box(
                    (float(self.rng.uniform(0.2, 0.8)), float(self.rng.uniform(0.2, 0.35)), 0.2), x, y + 0.03, z, turn
                )
        c, s = np.cos(turn), np.sin(turn)
        for a in (-0.46, 0.46):
            self.box((0.03, 1.83, 0.3), x + c * a, 0.0, z - s * a, turn)

    def bed(self, x: float, z: float, turn: float) -> None:
        """A mattress, a head board and a pillow."""
        c, s = np.cos(turn), np.sin(turn)
        self.box((1.4, 0.45, 2.0), x, 0.0, z, turn)
        self.box((1.4, 0.9, 0.08), x - s * 1.0, 0.0, z - c * 1.0, turn)
        self.box((0.6, 0.12, 0.4), x - s * 0.7, 0.45, z - c * 0.7, turn)

    def plant(self, x: float, z: float) -> None:
        """A ball on a pole in a pot."""
        self.drum(0.16, 0.3, x, 0.0, z)
        self.drum(0.03, 0.9, x, 0.3, z)
        self.ball(0.28, x, 1.3, z)


def wall(place: Place, a: tuple[float, float], b: tuple[float, float], height: float, low: float = 0.0) -> None:
    """A wall between two points of the floor."""
    length, turn = float(np.hypot(b[0] - a[0], b[1] - a[1])), float(np.arctan2(-(b[1] - a[1]), b[0] - a[0]))
    place.box((length, height - low, 0.12), (a[0] + b[0]) / 2, low, (a[1] + b[1]) / 2, turn)


def wall_with_door(place: Place, a: tuple[float, float], b: tuple[float, float], height: float, at: float) -> None:
    """A wall with an opening of 1.1 m at a share of its length."""
    start, stop = np.asarray(a), np.asarray(b)
    length = np.linalg.norm(stop - start)
    one, two = (start + (stop - start) * (at + side * 0.55 / length) for side in (-1, 1))
    wall(place, a, (one[0], one[1]), height)
    wall(place, (two[0], two[1]), b, height)
    wall(place, (one[0], one[1]), (two[0], two[1]), height, 2.1)


def build_mosaic(seed: int = 0) -> trimesh.Scene:
    """A flat of 11 x 9 m with four furnished rooms."""
    place, height = Place(seed, mosaic, False), 2.6
    place.floor_and_ceiling(11.0, 9.0, 5.5, 4.5, height)
    corners = [(0.0, 0.0), (11.0, 0.0), (11.0, 9.0), (0.0, 9.0)]
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        wall(place, a, b, height)
    wall_with_door(place, (5.0, 0.0), (5.0, 4.5), height, 0.6)
    wall_with_door(place, (6.0, 4.5), (6.0, 9.0), height, 0.4)
    wall_with_door(place, (0.0, 4.5), (5.5, 4.5), height, 0.3)
    wall_with_door(place, (5.5, 4.5), (11.0, 4.5), height, 0.7)
    place.table(2.4, 2.0, 0.0)
    place.shelf(0.3, 3.2, np.pi / 2)
    place.plant(4.4, 0.6)
    place.sofa(8.6, 0.6, 0.0)
    place.table(8.0, 2.7, np.pi / 2)
    place.shelf(10.7, 2.0, -np.pi / 2)
    place.bed(1.2, 7.6, np.pi)
    place.shelf(4.0, 8.8, np.pi)
    place.plant(5.4, 8.4)
    place.sofa(10.2, 6.8, -np.pi / 2)
    place.table(7.8, 7.4, 0.3)
    place.ball(0.3, 9.0, 0.3, 8.3)
    return place.scene


def build_loft(seed: int = 1) -> trimesh.Scene:
    """A hexagonal hall of 6.5 m radius with three slanted partitions."""
    place, height = Place(seed, clouds, True), 3.3
    place.floor_and_ceiling(13.4, 13.4, 0.0, 0.0, height)
    angle = np.arange(6) * np.pi / 3 + 0.2
    corners = [(6.5 * float(np.cos(t)), 6.5 * float(np.sin(t))) for t in angle]
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        wall(place, a, b, height)
    for index in (0, 2, 4):
        a, b = np.array(corners[index]), np.array(corners[index]) * 0.25
        wall_with_door(place, (a[0], a[1]), (b[0], b[1]), height, 0.55)
    for index, (x, z) in enumerate([(3.0, 3.4), (-3.6, 1.4), (0.6, -4.0)]):
        turn = 0.7 * index + 0.3
        place.sofa(x, z, turn)
        place.drum(0.5, 0.4, x + 1.3, 0.0, z - 0.9)
        place.ball(0.25, x + 1.3, 0.65, z - 0.9)
        place.plant(x - 1.4, z + 0.8)
        place.table(x - 1.2 * float(np.cos(turn)), z - 1.6, turn + 0.6)
    place.drum(0.3, height, 0.0, 0.0, 0.0)
    place.bed(-1.0, 4.2, 1.1)
    place.shelf(4.6, -1.2, -1.2)
    return place.scene


def main(folder: Path) -> None:
    """Write both."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in {"mosaic": build_mosaic, "loft": build_loft}.items():
        build().export(folder / f"{name}.glb")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
