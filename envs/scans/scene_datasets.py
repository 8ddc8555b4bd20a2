"""Habitat's scene datasets: ``*.scene_dataset_config.json`` with stages, objects and the scenes made of them.

https://aihabitat.org/docs/habitat-sim/attributesJSON.html describes the files. Read is what decides geometry and
colour; physics, light, semantics and sound are passed over.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.files import read_json, visible
from envs.scans.axes import FARTHEST, STAGE_CONFIG, Y_UP, frame_matrix, scale_of, stage_of, text, vector
from envs.scans.gltf_math import rotation_matrix
from envs.scans.loading import Asset
from envs.scans.urdf import rest_pose

SCENE_INSTANCE = ".scene_instance.json"
OBJECT_CONFIG = ".object_config.json"
ARTICULATED_CONFIG = ".ao_config.json"
DATASET_CONFIG = ".scene_dataset_config.json"
# Section of a dataset -> ending of its config files.
KINDS = {
    "stages": STAGE_CONFIG,
    "objects": OBJECT_CONFIG,
    "articulated_objects": ARTICULATED_CONFIG,
    "scene_instances": SCENE_INSTANCE,
}
ENDINGS = (*KINDS.values(), ".basis.glb", ".glb", ".gltf", ".obj", ".ply", ".urdf")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Template:
    """A stage, object or scene as a dataset describes it.

    Attributes:
        handle: Name by which scenes refer to it: its file, relative to the dataset where it lies inside.
        attributes: The JSON of its file over the dataset's defaults.
        folder: Where names in `attributes` start.
        asset: The mesh, for a template that is a mesh without a config file.
    """

    handle: str
    attributes: Mapping[str, Any]
    folder: Path
    asset: Path | None = None

    @property
    def stem(self) -> str:
        """The handle's file name without ending."""
        return plain_name(self.handle)


@dataclass(frozen=True)
class Composition:
    """A scene instance: its meshes with transforms, and its navigation mesh where there is one."""

    name: str
    assets: tuple[Asset, ...]
    navmesh: Path | None = None


@dataclass(eq=False)
class SceneDataset:
    """An open ``*.scene_dataset_config.json``.

    Attributes:
        path: The file.
        templates: For each section of `KINDS`, its templates.
        navmeshes: Files by name.
        stage_defaults: Attributes of stages that are listed nowhere.
    """

    path: Path
    templates: dict[str, list[Template]] = field(default_factory=dict)
    navmeshes: dict[str, Path] = field(default_factory=dict)
    stage_defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path) -> SceneDataset:
        """Read a dataset's config and list what it offers.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"scene dataset {path} does not exist")
        raw = read_json(path)
        dataset = cls(path)
        with _one_form(path):
            for kind, ending in KINDS.items():
                dataset.templates[kind] = list(_templates(raw.get(kind, {}), ending, path.parent))
            dataset.stage_defaults = raw.get("stages", {}).get("default_attributes", {})
            named = raw.get("navmesh_instances", {})
            dataset.navmeshes = {name: path.parent / file for name, file in named.items() if isinstance(file, str)}
        return dataset

    def scene_names(self) -> list[str]:
        """Names of the scenes: scene instances, and stages where there are none."""
        kind = "scene_instances" if self.templates["scene_instances"] else "stages"
        return sorted({template.stem for template in self.templates[kind]})

    def compose(self, scene: str, file: Path | None = None) -> Composition:
        """Resolve a scene instance to its meshes.

        Args:
            scene: Name, handle or path of a scene instance, or of a stage that is a scene by itself.
            file: The mesh that is taken as a stage where the dataset does not list the scene, as Habitat does.

        Raises:
            ValueError: There is no such scene, stage or object (the message names near ones), or a file it is made of
                is damaged.
        """
        with _one_form(self.path):
            return self._compose(scene, file)

    def _compose(self, scene: str, file: Path | None) -> Composition:
        instance = self._find("scene_instances", scene)
        if instance is None and scene.endswith(SCENE_INSTANCE) and Path(scene).is_file():
            instance = Template(scene, read_json(Path(scene)), Path(scene).parent)
        if instance is not None:
            return self._of_instance(instance)
        stage = self._find("stages", scene)
        if stage is None and file is not None:
            stage = Template(file.as_posix(), self.stage_defaults, file.parent, file)
        if stage is None:
            near = get_close_matches(plain_name(scene), self.scene_names(), n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(self.scene_names()[:5])}, ..."
            raise ValueError(f"scene {scene} is not in {self.path}: {hint}")
        placed = stage_of(stage.attributes, stage.folder, stage.asset)
        return Composition(stage.stem, (Asset(placed.asset, placed.matrix, stage.stem),), placed.navmesh)

    def _find(self, kind: str, handle: str) -> Template | None:
        """The template of a handle: of that path, that name or, as in Habitat, whose handle contains it."""
        wanted, name = _without_ending(handle.replace("\\", "/")), plain_name(handle)
        offered = self.templates[kind]
        for matches in (
            lambda t: _without_ending(t.handle) == wanted,
            lambda t: "/" in wanted and _same_path(_without_ending(t.handle), wanted),
            lambda t: t.stem == name,
            lambda t: wanted in t.handle,
        ):
            matching = sorted((t for t in offered if matches(t)), key=lambda t: t.handle)
            if matching:
                return matching[0]
        return None

    def _needed(self, kind: str, handle: Any, scene: Template) -> Template:
        template = self._find(kind, handle) if isinstance(handle, str) and handle else None
        if template is None:
            near = get_close_matches(plain_name(str(handle)), [t.stem for t in self.templates[kind]], n=3)
            hint = f"; near are {', '.join(near)}" if near else ""
            raise ValueError(f"scene {scene.handle}: {self.path.name} has no {handle!r} among its {kind}{hint}")
        return template

    def _of_instance(self, scene: Template) -> Composition:
        """The parts of a scene instance."""
        attributes = scene.attributes
        assets: list[Asset] = []
        navmesh = None
        stage_instance = attributes.get("stage_instance", {})
        if stage_instance.get("template_name", "NONE") not in ("NONE", ""):
            template = self._needed("stages", stage_instance["template_name"], scene)
            stage = stage_of(template.attributes, template.folder, template.asset)
            assets.append(Asset(stage.asset, placement(stage_instance) @ stage.matrix, template.stem))
            navmesh = stage.navmesh
        origin = attributes.get("translation_origin", "com")
        for instance in attributes.get("object_instances", ()):
            template = self._needed("objects", instance.get("template_name"), scene)
            asset = _object(template, instance, str(instance.get("translation_origin", origin)))
            assets += [] if asset is None else [asset]
        for instance in attributes.get("articulated_object_instances", ()):
            assets += self._articulated(instance, scene)
        named = attributes.get("navmesh_instance")
        file = self.navmeshes.get(named, scene.folder / named) if isinstance(named, str) and named else None
        if file is not None and not file.is_file():
            _log.warning("scene %s names the navigation mesh %s, which is not there", scene.handle, file)
        navmesh = file if file is not None and file.is_file() else navmesh
        if not assets:
            raise ValueError(f"scene {scene.handle} of {self.path} names neither a stage nor objects")
        return Composition(scene.stem, tuple(assets), navmesh)

    def _articulated(self, instance: Mapping[str, Any], scene: Template) -> Iterator[Asset]:
        """The links of an articulated object, in the pose in which all its joints are at 0."""
        template = self._needed("articulated_objects", instance.get("template_name"), scene)
        urdf = template.asset
        if "urdf_filepath" in template.attributes:
            urdf = template.folder / template.attributes["urdf_filepath"]
        if urdf is None:
            raise ValueError(f"articulated object {template.handle} of {self.path} names no urdf_filepath")
        pose = instance.get("initial_joint_pose") or ()
        if any(float(angle) for angle in (pose.values() if isinstance(pose, Mapping) else pose)):
            _log.warning("the joints of %s in scene %s are drawn at 0, not at its initial_joint_pose",
                         template.handle, scene.handle)  # fmt: skip
        size = float(template.attributes.get("uniform_scale", 1.0)) * float(instance.get("uniform_scale", 1.0))
        scale = np.diag([size, size, size, 1.0])
        for mesh, matrix in rest_pose(urdf):
            yield Asset(mesh, placement(instance) @ scale @ matrix, template.stem)


@contextmanager
def _one_form(path: Path) -> Iterator[None]:
    """Values of other types than Habitat's become one-line errors with the dataset's name."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
    except (AttributeError, TypeError, KeyError, OverflowError, NotImplementedError) as error:
        raise ValueError(f"cannot read {path}: a part of it has an unexpected form ({error})") from error


def compose_file(path: Path) -> Composition:
    """Read a ``.scene_instance.json`` by the dataset config above it.

    Raises:
        FileNotFoundError: No folder above holds one.
    """
    for folder in path.resolve().parents[:4]:
        configs = visible(folder, f"*{DATASET_CONFIG}")
        if configs:
            return SceneDataset.open(configs[0]).compose(str(path))
    raise FileNotFoundError(f"no *{DATASET_CONFIG} lies above {path}; name it with env.dataset")


def placement(instance: Mapping[str, Any]) -> NDArray[np.float64]:
    """(4, 4) translation x rotation (w, x, y, z) of an instance.

    Raises:
        ValueError: The rotation is not made of four numbers, or is 0.
    """
    matrix = np.eye(4)
    quaternion = np.array(instance.get("rotation", (1.0, 0.0, 0.0, 0.0)), np.float64).ravel()
    length = float(np.linalg.norm(quaternion))
    if quaternion.shape != (4,) or not 0 < length < FARTHEST:
        raise ValueError(f"rotation must be four numbers w, x, y, z, got {instance.get('rotation')!r}")
    matrix[:3, :3] = rotation_matrix(*(quaternion / length))
    matrix[:3, 3] = vector(instance.get("translation", (0.0, 0.0, 0.0)), "translation")
    return matrix


def plain_name(handle: str) -> str:
    """File name of a handle without folder and ending, as Habitat names scenes."""
    return _without_ending(Path(handle.replace("\\", "/")).name)


def _without_ending(name: str) -> str:
    return next((name[: -len(ending)] for ending in ENDINGS if name.endswith(ending)), name)


def _same_path(a: str, b: str) -> bool:
    """Whether one path is the end of the other, folder by folder."""
    shorter, longer = sorted((a.strip("./").split("/"), b.strip("./").split("/")), key=len)
    return longer[-len(shorter) :] == shorter


def _object(template: Template, instance: Mapping[str, Any], origin: str) -> Asset | None:
    """A rigid object at its place; None for one without a mesh file (Habitat's own primitives)."""
    attributes = template.attributes
    named = text(attributes, "render_asset")
    mesh = template.folder / named if named else template.asset
    if mesh is None or (named and not mesh.suffix):
        _log.warning("object %s has no mesh file and is left out", template.handle)
        return None
    up, front = (vector(attributes.get(key, axis), key) for key, axis in zip(("up", "front"), Y_UP, strict=True))
    scale = np.array(scale_of(attributes.get("scale", 1.0)))
    scale = (
        scale * np.array(scale_of(instance.get("non_uniform_scale", 1.0))) * float(instance.get("uniform_scale", 1.0))
    )
    local = frame_matrix(up, front, (float(scale[0]), float(scale[1]), float(scale[2])))
    placed = placement(instance)
    if origin.lower() == "asset_local":
        return Asset(mesh, placed, template.stem, local=local)
    centre = attributes.get("COM")
    if centre is None or attributes.get("compute_COM_from_shape", False):
        return Asset(mesh, placed, template.stem, centred=True, local=local)
    back = np.eye(4)
    back[:3, 3] = -np.array(vector(centre, "COM")) * scale
    return Asset(mesh, placed @ back, template.stem, local=local)


def _templates(section: Mapping[str, Any], ending: str, root: Path) -> Iterator[Template]:
    """What a section of a dataset lists: files, meshes without config, and entries of its own."""
    defaults = section.get("default_attributes", {})
    templates: dict[str, Template] = {}
    for extension, patterns in section.get("paths", {}).items():
        for file in _files(root, extension, patterns, ending):
            handle = _handle(file, root)
            if extension == ".json":
                templates[handle] = Template(handle, {**defaults, **read_json(file)}, file.parent)
            else:
                templates[handle] = Template(handle, defaults, file.parent, file)
    for entry in section.get("configs", ()):
        template = _entry(entry, templates, defaults, ending, root)
        templates[template.handle] = template
    yield from templates.values()


def _entry(
    entry: Mapping[str, Any], known: Mapping[str, Template], defaults: Mapping[str, Any], ending: str, root: Path
) -> Template:
    """A template that the dataset's config itself describes, perhaps by changing that of a file."""
    attributes = entry.get("attributes", {})
    original = entry.get("original_file")
    if original is None:
        handle = entry.get("template_handle")
        if not handle:
            raise ValueError(f"an entry of 'configs' in {root} has neither original_file nor template_handle")
        return Template(handle, {**defaults, **attributes}, root)
    file = root / original
    handle = entry.get("template_handle") or _handle(file, root)
    if not original.endswith(ending):
        return Template(handle, {**defaults, **attributes}, file.parent, file)
    base = known[_handle(file, root)].attributes if _handle(file, root) in known else {**defaults, **read_json(file)}
    return Template(handle, {**base, **attributes}, file.parent)


def _files(root: Path, extension: str, patterns: Any, ending: str) -> Iterator[Path]:
    """Files of a ``paths`` entry: folders and files, with wildcards, relative to the dataset's config."""
    wanted = ending if extension == ".json" else extension
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if ".." in Path(pattern).parts and "**" in Path(pattern).parts:
            raise ValueError(f"the pattern {pattern} of {root} searches all folders above it")
        plain = Path(pattern)  # "./" and "" are the folder itself, which glob does not know
        whole = plain.is_absolute() or not plain.parts
        places = [root / plain] if whole else visible(root, re.sub(r"(\*\*/)+", "**/", plain.as_posix()))
        for place in places:
            if place.is_dir():
                yield from (file for file in visible(place) if file.name.endswith(wanted))
            elif place.name.endswith(wanted) and place.is_file():
                yield place


def _handle(file: Path, root: Path) -> str:
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return file.as_posix()
