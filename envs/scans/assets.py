"""Path resolution: scenes that episodes name, and a mesh file's buffers, materials and textures."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from configs.files import visible

# Where Habitat's datasets say that their scenes lie; Habitat-Lab strips it from the scene ids of episodes.
HABITAT_PREFIX = "data/scene_datasets/"


def scene_candidates(name: str, scenes_dir: Path) -> list[Path]:
    """Files that a scene or dataset named by an episode may be: the name as it is, or below a folder of scenes."""
    plain = name.replace("\\", "/").removeprefix("./").removeprefix(HABITAT_PREFIX)
    return list(dict.fromkeys((Path(name), scenes_dir / plain)))


def find_asset(folder: Path, name: str) -> Path | None:
    """The file that a mesh file in `folder` means by `name`; None where there is none.

    It is looked for as written, with percent signs and backslashes resolved, beside the mesh, and at last without
    regard to upper and lower case, as exporters on other systems write names.
    """
    plain = unquote(name.strip()).replace("\\", "/")
    if "\0" in plain:
        return None
    for candidate in dict.fromkeys((name.strip(), plain, Path(plain).name)):
        if candidate and (folder / candidate).is_file():
            return folder / candidate
    for place in dict.fromkeys(((folder / plain).parent, folder)):
        for file in visible(place):
            if file.name.lower() == Path(plain).name.lower() and file.is_file():
                return file
    return None


def read_asset(folder: Path, name: str) -> bytes:
    """Content of the file that a mesh file in `folder` means by `name`.

    Raises:
        FileNotFoundError: There is none.
    """
    file = find_asset(folder, name)
    if file is None:
        plain = unquote(name.strip()).replace("\\", "/")
        raise FileNotFoundError(f"{plain} is missing")
    return file.read_bytes()
