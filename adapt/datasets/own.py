"""Labelled images of one's own, in whatever common form they lie: class folders, archives of them, arrays.

One set is a folder of class folders, split into `train` and `test` (or `val`) or not; the same in a `.zip` or `.tar`
archive; or an `.npz` of images and classes. A folder of such sets is several of them. Images may differ in size.
"""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from adapt.core.decoding import MOST_CLASSES, Array, texts
from adapt.datasets.images import IMAGE_SUFFIXES, Labelled, Splits, split
from adapt.datasets.packed import object_array, parts_of, read_members
from configs.files import is_hidden, mistaken, visible

SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".jfif", ".jpe", ".avif", ".jp2")
# Pictures all the same, which are not read.
NOT_READ = frozenset(
    {".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".psd", ".svg", ".dcm", ".raw"}
)
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation", "eval", "evaluation")
IMAGES, LABELS = ("x", "images", "image", "data", "imgs"), ("y", "labels", "label", "targets", "target")
NAMES = ("classes", "class_names", "names", "label_names", "fine_names", "target_names")
DEEPEST = 8  # Folders within folders; links may go round.
Source = Path | bytes
LAYOUT = """
<folder>/{train,test}/<class>/*.jpg    (or val; any common image format)
<folder>/<class>/*.jpg                 split 80:20 by seed
<set>/... of these for several sets    each becomes a task
an archive of one of these             .zip, .tar, .tar.gz
one .npz per set                       x or images, y or labels; or x_train, y_train, x_test, y_test
"""


@dataclass(frozen=True)
class Entry:
    """An image in a tree: names of folders and the file, and where its bytes are."""

    parts: tuple[str, ...]
    source: Source


def find_sets(data: Path, share: float, seed: int) -> dict[str, Splits]:
    """All labelled sets at a place, by name.

    Args:
        data: a folder, an archive or an npz file.
        share: of each class's images that test, where a set has no test images of its own.
        seed: of that split.

    Raises:
        FileNotFoundError: there is nothing, or no labelled image.
        ValueError: images lie in no class folder, test images are of unknown classes, or a file cannot be read.
    """
    if data.is_file():
        return {_stem(data): array_set(data, share, seed)} if data.suffix == ".npz" else _archive(data, share, seed)
    if not data.is_dir():
        raise FileNotFoundError(f"{data} is absent")
    sets: dict[str, Splits] = {}
    for file in visible(data):
        if file.is_file() and (file.suffix == ".npz" or file.name.lower().endswith(ARCHIVES)):
            _add(sets, find_sets(file, share, seed))
    files = list(_files_below(data))
    entries = [Entry(path.relative_to(data).parts, path) for path in files if _is_image(path.name)]
    _warn_of_others(data, files, entries)
    if entries:
        _add(sets, tree_sets(data.resolve().name, entries, share, seed))
    if not sets:
        raise FileNotFoundError(f"{data} holds no images in class folders, no npz file and no archive")
    return sets


def _add(sets: dict[str, Splits], more: Mapping[str, Splits]) -> None:
    """Add sets to those found, whose names they must not have; raises ValueError."""
    if twice := sorted(sets.keys() & more.keys()):
        raise ValueError(f"two sets are named {twice[0]}; rename one, for each becomes a task of its name")
    sets.update(more)


def find_set(path: Path, share: float, seed: int) -> Splits:
    """The one labelled set at a place; arguments as for `find_sets`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, or what is there does not fit.
    """
    sets = find_sets(path, share, seed)
    if len(sets) > 1:
        raise ValueError(f"{path} holds several sets ({', '.join(sorted(sets)[:3])}, ...); give one of them")
    return next(iter(sets.values()))


def _stem(path: Path) -> str:
    name = path.name
    for ending in sorted((*ARCHIVES, ".npz"), key=len, reverse=True):
        name = name.removesuffix(ending)
    return name


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files in a folder and those in it, sorted; links are followed, but not to a folder that they lie in.

    Of a folder without any, the folder itself.
    """
    empty = True
    above = (*above, folder.resolve())
    for path in visible(folder):
        empty = False
        if not path.is_dir():
            yield path
        elif len(above) <= DEEPEST and path.resolve() not in above:
            yield from _files_below(path, above)
    if empty:
        yield folder


def _warn_of_others(data: Path, files: Sequence[Path], entries: Sequence[Entry]) -> None:
    """Say which pictures are not read, and which folders beside class folders hold no images: they are no classes."""
    if unread := [path for path in files if path.suffix.lower() in NOT_READ]:
        kinds = ", ".join(sorted({path.suffix.lower() for path in unread}))
        _warn(f"{data}: pictures of a kind that is not read are passed over ({len(unread)}: {kinds}); convert them")
    folders = {entry.source.parent for entry in entries if isinstance(entry.source, Path)}
    with_images = folders | {above for folder in folders for above in folder.parents}
    beside = {folder.parent for folder in with_images}
    without = {path if path.is_dir() else path.parent for path in files} - with_images
    if bare := sorted(str(folder.relative_to(data)) for folder in without if folder.parent in beside & with_images):
        more = f" and {len(bare) - 3} others" if len(bare) > 3 else ""
        _warn(f"{data}: there are no images in {', '.join(bare[:3])}{more}, which are no classes therefore")


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def _archive(path: Path, share: float, seed: int) -> dict[str, Splits]:
    """The sets in an archive, whose images are held in memory as they are stored."""
    try:
        entries = [
            Entry(parts, data) for name, data in _members(path) if not any(map(is_hidden, parts := _parts(name)))
        ]
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        # RuntimeError: it is encrypted, or compressed in a way that is not known here
        reason = mistaken(path) or str(error).partition("\n")[0].rstrip(":")
        raise ValueError(f"{path} is neither a readable archive nor an npz file ({reason})") from error
    if not entries:
        raise FileNotFoundError(f"{path} holds no images")
    return tree_sets(_stem(path), entries, share, seed)


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file of a name in an archive; Windows writes backslashes."""
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/")


def _check_size(sizes: Iterable[int]) -> None:
    """Refuse images that would not fit into memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if (size := sum(sizes)) > memory:
        raise ValueError(f"it unpacks to {size / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB")


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the images in an archive, sorted by name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_size(entry.file_size for entry in archive.infolist() if _is_image(entry.filename))
            for name in sorted(filter(_is_image, archive.namelist())):
                yield name, archive.read(name)
        return
    with tarfile.open(path) as archive:
        images = {member.name: member for member in archive if member.isfile() and _is_image(member.name)}
        _check_size(member.size for member in images.values())
        for name in sorted(images):
            file = archive.extractfile(images[name])
            assert file is not None
            yield name, file.read()


def tree_sets(name: str, entries: Sequence[Entry], share: float, seed: int) -> dict[str, Splits]:
    """The sets in a tree of images: one if its folders are classes or parts, else one per folder.

    Raises:
        ValueError: the folders are neither, or test images are of unknown classes.
    """
    children = _children(entries)
    loose = [entry for entry in entries if len(entry.parts) == 1]
    if not children:
        raise ValueError(f"the images of {name} lie in no folders that name their classes, such as {loose[0].parts[0]}")
    if _part(children, TRAIN):
        return {name: _parted(name, children, share, seed)}
    if len(_part(children, TEST)) == len(children):
        raise ValueError(f"{name} has images in {', '.join(children)} alone; name the folder to learn from train")
    kinds = {child: any(len(entry.parts) == 1 for entry in inside) for child, inside in children.items()}
    if all(kinds.values()):
        return {name: _whole(entries, share, seed)}
    if len(children) > 1 and any(kinds.values()):
        odd = next(child for child, is_class in kinds.items() if is_class)
        raise ValueError(f"{name} mixes class folders ({odd}) and folders of class folders; give one kind")
    sets: dict[str, Splits] = {}
    for child, inside in children.items():
        _add(sets, tree_sets(child, inside, share, seed))
    return sets


def _children(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by their first folder, without it; those that lie in none are left out."""
    children: dict[str, list[Entry]] = {}
    for entry in entries:
        if len(entry.parts) > 1:
            children.setdefault(entry.parts[0], []).append(Entry(entry.parts[1:], entry.source))
    return children


def _part(children: Mapping[str, list[Entry]], names: Sequence[str]) -> list[str]:
    """The folders that are a part of a set by their name and hold class folders, in the order of the names."""
    named = [child for name in names for child in children if child.lower() == name]
    return [child for child in named if _children(children[child])]


def _parted(name: str, children: Mapping[str, list[Entry]], share: float, seed: int) -> Splits:
    train = children[_part(children, TRAIN)[0]]
    tests = _part(children, TEST)
    if not tests:
        _warn(f"{name} has no test images in class folders; {share:.0%} of its train images test")
        return _whole(train, share, seed)
    classes = tuple(sorted(_children(train)))
    test = children[tests[0]]
    if unknown := sorted(set(_children(test)) - set(classes)):
        raise ValueError(f"{name}/{tests[0]} has the class {unknown[0]!r}, which {name} has no training images of")
    return Splits(_labelled(train, classes), _labelled(test, classes), classes)


def _whole(entries: Sequence[Entry], share: float, seed: int) -> Splits:
    classes = tuple(sorted(_children(entries)))
    return split(_labelled(entries, classes), classes, share, seed)


def _labelled(entries: Sequence[Entry], classes: tuple[str, ...]) -> Labelled:
    """Images in class folders, however deep below them."""
    inside = _children(entries)
    if loose := [entry.parts[0] for entry in entries if len(entry.parts) == 1]:
        _warn(f"images beside class folders are passed over ({len(loose)}, such as {loose[0]})")
    sources = [entry.source for name in classes for entry in inside.get(name, [])]
    labels = np.repeat(np.arange(len(classes)), [len(inside.get(name, [])) for name in classes])
    if any(isinstance(source, bytes) for source in sources):
        return Labelled(object_array([source for source in sources if isinstance(source, bytes)]), labels)
    return Labelled([source for source in sources if isinstance(source, Path)], labels)


def array_set(path: Path, share: float, seed: int) -> Splits:
    """The set in an npz file.

    Images: uint8, or floats in 0..1, 0..255 or -1..1, (N,H,W), (N,H,W,C) or (N,C,H,W) with 1, 3 or 4 channels; or
    packed as `adapt.datasets.packed` says. Classes: numbers, words, or one column per class (N,C). Parts: members with
    `train` and `test` (or `val`) in their names; or `is_test`, or `split`; else it is split here.

    Raises:
        ValueError: there are no such members, or they do not fit.
    """
    members = read_members(path)
    names = next((texts(members, key, path) for key in NAMES if key in members), None)
    train = _pair(path, members, TRAIN)
    if train is not None:
        test = _pair(path, members, TEST)
        if test is None:
            return _split_arrays(path, *train, names, None, share, seed)
        count = len(train[1])
        y, classes = _classes(path, np.concatenate([_flat(train[1]), _flat(test[1])]), names)
        if unknown := sorted(set(y[count:].tolist()) - set(y[:count].tolist())):
            raise ValueError(f"{path} tests the class {classes[unknown[0]]!r}, which it has no training images of")
        return Splits(Labelled(train[0], y[:count]), Labelled(test[0], y[count:]), classes)
    whole = _pair(path, members, ("",))
    if whole is None:
        raise ValueError(
            f"{path} has the members {', '.join(sorted(members)) or 'none'}; it needs images (one of "
            f"{', '.join(IMAGES)}) and classes (one of {', '.join(LABELS)})"
        )
    return _split_arrays(path, *whole, names, _is_test(path, members, len(whole[1])), share, seed)


def _split_arrays(
    path: Path, x: Array, y: Array, names: tuple[str, ...] | None, test: Array | None, share: float, seed: int
) -> Splits:
    labels, classes = _classes(path, y, names)
    source = Labelled(x, labels)
    if test is None:
        return split(source, classes, share, seed)
    return Splits(source.take(np.flatnonzero(~test)), source.take(np.flatnonzero(test)), classes)


def _is_test(path: Path, members: Mapping[str, Array], count: int) -> Array | None:
    """Which images test, (count,) bool, if the file says it."""
    if "is_test" in members:
        return parts_of(members, path, count)
    if "split" not in members:
        return None
    parts = members["split"]
    if parts.shape != (count,) or parts.dtype.kind not in "iuUS":
        raise ValueError(f"{path}: split must be {count} numbers or words, it is {parts.dtype}{parts.shape}")
    if parts.dtype.kind in "US":
        lowered = np.char.lower(parts.astype(str))
        return np.isin(lowered, ("test", "testing")) if "test" in lowered else np.isin(lowered, TEST)
    # 0 train, 1 valid, 2 test: what is held out for validation is trained on.
    return parts == parts.max()


def _pair(path: Path, members: Mapping[str, Array], parts: Sequence[str]) -> tuple[Array, Array] | None:
    """Images and classes of the first of these parts that a file has, "" for members without a part's name."""
    lowered = {name.lower(): name for name in members}
    for part in parts:
        pair = []
        for bases in (IMAGES, LABELS):
            forms = [f for base in bases for f in ((base,) if not part else (f"{base}_{part}", f"{part}_{base}"))]
            found = [lowered[form] for form in forms if form in lowered]
            # Some files hold the pixels of each image as a row, too.
            found = [name for name in found if bases is LABELS or members[name].ndim != 2] or found
            if len(found) > 1:
                raise ValueError(f"{path} has {' and '.join(found)}, and one of them is needed; leave out the others")
            pair.append(found[0] if found else None)
        if pair[0] is not None and pair[1] is not None:
            x, y = as_images(path, members[pair[0]]), members[pair[1]]
            if not y.ndim:
                raise ValueError(f"{path}: {pair[1]} must hold a class per image, it is one {y.dtype}")
            if len(x) != len(y):
                raise ValueError(f"{path} has {len(x)} images in {pair[0]} and {len(y)} classes in {pair[1]}")
            return x, y
    return None


def as_images(path: Path, x: Array) -> Array:
    """Images of any common layout as uint8 (N,H,W,3), or encoded ones as they are.

    Raises:
        ValueError: the array has another shape or range.
    """
    if x.dtype == object:
        return x
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4 and x.shape[-1] not in (1, 3, 4) and x.shape[1] in (1, 3, 4):
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or x.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{path}: images must be (N,H,W), (N,H,W,C) or (N,C,H,W) with C of 1, 3 or 4, got {x.shape}")
    if 0 in x.shape[1:3]:
        raise ValueError(f"{path}: images must have a height and a width, got {x.shape}")
    x = _as_bytes(path, x[..., :3])
    return np.ascontiguousarray(x.repeat(3, -1) if x.shape[-1] == 1 else x)


def _as_bytes(path: Path, x: Array) -> NDArray[np.uint8]:
    """Values of any common range as uint8."""
    if x.dtype == bool:
        return x.astype(np.uint8) * 255
    if x.dtype.kind in "iu" and x.size and x.min() >= 0 and x.max() == 1:
        raise ValueError(f"{path}: images hold 0 and 1 alone; store them as truth values (bool) or multiply by 255")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind not in "iuf" or not len(x):
        raise ValueError(f"{path}: images must be numbers, and at least one, they are {x.dtype}{x.shape}")
    if x.dtype.kind == "f" and (odd := np.flatnonzero(~np.isfinite(x).all((1, 2, 3)))).size:
        raise ValueError(f"{path}: {len(odd)} of {len(x)} images hold NaN or infinity, the first is number {odd[0]}")
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind == "f" and -1 <= low < 0 and high <= 1:
        x, low, high = (x + 1) / 2, 0.0, 1.0
    if x.dtype.kind == "f" and low >= 0 and high <= 1:
        x = x * 255
    elif 1 < high < 2 and low >= 0:
        raise ValueError(f"{path}: images are floats of {low:g} to {high:g}, a little more than 1; clip them to 0..1")
    elif not (low >= 0 and high <= 255):
        raise ValueError(f"{path}: images must lie in 0..255, or as floats in 0..1 or -1..1, found {low:g} to {high:g}")
    return np.rint(x).astype(np.uint8)


def _flat(y: Array) -> Array:
    """Classes (N,1) as (N,)."""
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _classes(path: Path, y: Array, names: tuple[str, ...] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Classes as 0..C-1 and their names.

    Raises:
        ValueError: they are of another shape.
    """
    y = _flat(y)
    if y.ndim == 2 and ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all():
        y = y.argmax(1)
    if y.dtype.kind == "f" and (np.abs(y) < 2**53).all() and (y == np.rint(y)).all():
        y = y.astype(np.int64)
    if y.ndim != 1 or y.dtype.kind not in "biuUS":
        wanted = "whole numbers or words (N,), or one column per class with a single 1"
        raise ValueError(f"{path}: classes must be {wanted}, they are {y.dtype}{y.shape}")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if names is not None and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: two classes have the name {twice!r}")
    values, labels = np.unique(y, return_inverse=True)
    if len(values) > MOST_CLASSES:
        raise ValueError(f"{path} has {len(values)} classes; at most {MOST_CLASSES} are possible")
    if y.dtype.kind in "iu" and names is not None and len(values):
        if values[0] < 0 or values[-1] >= len(names):
            span = f"{values[0]} to {values[-1]}"
            raise ValueError(f"{path}: classes go from {span}, and there are {len(names)} names; number them from 0")
        return y.astype(np.int64), names
    return labels.astype(np.int64), tuple(map(str, values))
