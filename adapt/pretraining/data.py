"""Reads Taskonomy-layout datasets: ``{root}/{domain}/{building}/point_P_view_V_domain_D.{png,npy}``."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adapt.core.decoding import opened, read_npy
from configs.files import visible, visible_folders
from configs.names import nearest

VECTORS = ("class_object", "class_scene")
# Interpolation would mix their codes of invalid pixels into valid ones.
NEAREST = ("mask_valid", "segment_semantic", "principal_curvature", "normal", "depth_zbuffer", "depth_euclidean")
# Names of a domain's folder and files, the first as this project and the last releases write them.
ALIASES = {"principal_curvature": ("principal_curvature", "curvature")}
MEMORY_LIMIT = 3 * 2**30
READERS = 8


class NoViews(ValueError):
    """No view has all of the wanted domains."""


class TaskonomyViews:
    """The views that have all of the wanted domains, in one or several roots.

    Images are kept in memory after they were first read, if all of them fit into 3 GiB.

    Args:
        roots: Folders of datasets.
        domains: Wanted domains.
        size: Pixels per side to resize to; as stored when None.
        buildings: Only views of these; all when None.

    Raises:
        FileNotFoundError: A folder is absent.
        NoViews: No view has all domains.
        ValueError: A file cannot be read.
    """

    def __init__(
        self,
        roots: Sequence[str | Path],
        domains: Sequence[str],
        size: int | None = None,
        buildings: Collection[str] | None = None,
    ) -> None:
        self.domains = tuple(dict.fromkeys(domains))
        self._files: list[dict[str, Path]] = []
        for root in map(Path, roots):
            views = _index(root, self.domains)
            self._files += [v for v in views if buildings is None or next(iter(v.values())).parent.name in buildings]
        if not self._files:
            raise NoViews(f"{', '.join(map(str, roots))}: no view has all of {', '.join(self.domains)}")
        self.size = size or len(_read(self._files[0]["rgb"], "rgb", None))
        self._kept: dict[str, NDArray[np.generic]] = {}
        self._known = np.zeros(len(self._files), bool)
        self._forms: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]] = {}
        first = self._read_view(0, self.domains)
        self._forms = {domain: (array.shape, array.dtype) for domain, array in first.items()}
        if sum(array.nbytes for array in first.values()) * len(self._files) <= MEMORY_LIMIT:
            for domain, array in first.items():
                self._kept[domain] = np.empty((len(self._files), *array.shape), array.dtype)

    def __len__(self) -> int:
        """Number of views."""
        return len(self._files)

    def sample(self, count: int, seed: int = 0) -> TaskonomyViews:
        """Some of the views, chosen at random; all if there are no more."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        part = copy.copy(self)
        part._files = [self._files[i] for i in np.sort(chosen)]
        part._known = np.zeros(len(part._files), bool)
        part._kept = {d: np.empty((len(part._files), *array.shape[1:]), array.dtype) for d, array in self._kept.items()}
        return part

    def files(self, domain: str) -> list[Path]:
        """The file of each view in a domain."""
        return [view[domain] for view in self._files]

    def batch(
        self, indices: Sequence[int] | NDArray[np.int64], domains: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Read views.

        Args:
            indices: (B,) indices of views.
            domains: Some of the wanted domains; all when None.

        Returns:
            Per domain the stored values: (B,C,size,size) uint8 or int32 (16-bit files), or (B,classes) float32.
        """
        indices, chosen = np.asarray(indices), self.domains if domains is None else domains
        if not self._kept:
            with ThreadPoolExecutor(READERS) as pool:
                views = list(pool.map(self._read_view, indices, repeat(chosen)))
            return {d: as_batch(np.stack([view[d] for view in views])) for d in chosen}
        missing = indices[~self._known[indices]]
        if len(missing):
            with ThreadPoolExecutor(READERS) as pool:
                for index, view in zip(missing, pool.map(self._read_view, missing, repeat(self.domains)), strict=True):
                    for domain, array in view.items():
                        self._kept[domain][index] = array
            self._known[missing] = True
        return {d: as_batch(self._kept[d][indices]) for d in chosen}

    def _read_view(self, index: int, domains: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        files = self._files[index]
        view = {d: _read(files[d], d, None if d in VECTORS else self.size) for d in domains}
        for domain, array in view.items():
            shape, dtype = self._forms.get(domain, (array.shape, array.dtype))
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{files[domain]} holds {array.dtype}{array.shape}, other views have {dtype}{shape}")
        return view


def _index(root: Path, domains: Sequence[str]) -> list[dict[str, Path]]:
    """Files of the views of a root that have all domains, in the order of building, point and view."""
    views: dict[tuple[str, int, int], dict[str, Path]] = {}
    for domain in domains:
        names = ALIASES.get(domain, (domain,))
        folders = [root / name for name in names if (root / name).is_dir()]
        if not folders:
            known = [path.name for path in visible_folders(root)]
            if not root.is_dir():
                raise FileNotFoundError(f"no dataset at {root}: render one with python -m envs.render out={root}")
            raise FileNotFoundError(f"{root} has no folder {domain}{nearest(domain, known)}")
        pattern = re.compile(rf"point_(\d+)_view_(\d+)_domain_(?:{'|'.join(names)})\.(?:png|npy)")
        for path in visible(folders[0], "*/point_*"):
            if match := pattern.fullmatch(path.name):
                key = (path.parent.name, int(match[1]), int(match[2]))
                views.setdefault(key, {})[domain] = path
    return [views[key] for key in sorted(views) if len(views[key]) == len(domains)]


def _read(path: Path, domain: str, size: int | None) -> NDArray[np.generic]:
    """Stored values (H,W[,C]) of an image, resized, or a vector."""
    try:
        if domain in VECTORS:
            return read_npy(path).astype(np.float32).reshape(-1)
        with opened(path) as image:
            image.load()
            if size is None or image.size == (size, size):
                return np.asarray(image)
            dtype = np.asarray(image).dtype
            method = Image.Resampling.NEAREST if domain in NEAREST else Image.Resampling.BILINEAR
            if image.mode.startswith("I"):
                wide = image.convert("F").resize((size, size), method)
                return np.rint(np.asarray(wide)).astype(dtype)
            return np.asarray(image.resize((size, size), method))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path} ({error}); delete it and render it again") from error


def as_batch(batch: NDArray[np.generic]) -> Tensor:
    """(B,H,W[,C]) to (B,C,H,W); vectors (B,N) as they are. Torch computes with 16 bits only if signed."""
    if batch.dtype.itemsize == 2:
        batch = batch.astype(np.int32)
    if batch.ndim == 2:
        return torch.from_numpy(batch)
    if batch.ndim == 3:
        return torch.from_numpy(batch)[:, None]
    return torch.from_numpy(batch).permute(0, 3, 1, 2)
