"""Miniature datasets in the layouts of their owners, made of pictures whose classes can be learned."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
from pictures import CLASSES, STYLES, characters, patterns, shape_jpegs
from PIL import Image
from scipy.io import savemat

INDEX = {
    name: place
    for place, name in enumerate(
        (
            "aircraft",
            "cifar100",
            "daimlerpedcls",
            "dtd",
            "gtsrb",
            "imagenet12",
            "omniglot",
            "svhn",
            "ucf101",
            "vgg-flowers",
        ),
        1,
    )
}


def pacs(path: Path, per_class: int) -> Path:
    """An npz as the file of PACS: seven classes in four domains, so many pictures of each class in each domain."""
    places = [(domain, label) for domain in range(len(STYLES)) for label in range(len(CLASSES))]
    blobs = [blob for domain, label in places for blob in shape_jpegs(STYLES[domain], label, per_class)]
    domains, labels = np.array(places, np.uint8).repeat(per_class, 0).T
    np.savez(
        path,
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        offset=np.cumsum([0, *map(len, blobs)]),
        y=labels,
        domain=domains,
        classes=np.array(CLASSES),
        domains=np.array(STYLES),
    )
    return path


def cifar100(folder: Path, train: int = 25, test: int = 10) -> Path:
    """`cifar100.npz` with so many training and test pictures of each of 100 patterns, shuffled."""
    parts = [patterns(100, count, part=part) for part, count in enumerate((train, test))]
    order = np.random.default_rng(0).permutation(100 * (train + test))
    x, y = (np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True))
    np.savez(folder / "cifar100.npz", x=x, y=y, is_test=order >= 100 * train)
    return folder


def cifar100_official(folder: Path, x: np.ndarray, y: np.ndarray, is_test: np.ndarray) -> dict[str, str]:
    """`cifar-100-python/{train,test,meta}` as its authors publish it; gives the MD5 of each file."""
    content = {"meta": {"fine_label_names": [f"class {i:02}" for i in range(100)]}}
    for name, part in (("train", ~is_test), ("test", is_test)):
        rows = x[part].transpose(0, 3, 1, 2).reshape(-1, 3 * 32 * 32)
        content[name] = {"data": np.ascontiguousarray(rows), "fine_labels": y[part].tolist()}
    for name, value in content.items():
        write(folder / "cifar-100-python" / name, pickle.dumps(value))
    return {name: hashlib.md5((folder / "cifar-100-python" / name).read_bytes()).hexdigest() for name in content}


def omniglot(path: Path, first: int = 0, classes: int = 12) -> Path:
    """An npz of packed Omniglot characters, each of which 20 drawers drew once; other ones from `first` on."""
    ink = characters(range(first, first + classes), 20).reshape(classes * 20, -1)
    labels, hands = np.divmod(np.arange(classes * 20), 20)
    np.savez(
        path,
        bits=np.packbits(ink, axis=1),
        shape=np.array([len(ink), 105, 105]),
        y=labels.astype(np.uint16),
        drawer=(hands + 1).astype(np.uint8),
    )
    return path


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def image_folders(root: Path, parts: dict[str, int], classes: int = 3, domain: str = "photo") -> None:
    """`<root>/<part>/class<i>/*.jpg` with that many images per class."""
    start = 0
    for part, count in parts.items():
        for label in range(classes):
            for number, data in enumerate(shape_jpegs(domain, label, count, start)):
                write(root / part / f"class{label}" / f"{number}.jpg", data)
        start += count


def decathlon(root: Path, names: tuple[str, ...], per_class: int = 4, test: bool = False) -> Path:
    """`decathlon-1.0` with three classes per set; folders are in another order than the categories."""
    top = root / "decathlon-1.0"
    for place, name in enumerate(names):
        domain = ("photo", "cartoon", "sketch", "art_painting")[place % 4]
        for split_place, split in enumerate(("train", "val", "test") if test else ("train", "val")):
            _decathlon_split(top, name, domain, split, per_class, split_place * per_class)
    return root


def _decathlon_split(top: Path, name: str, domain: str, split: str, count: int, start: int) -> None:
    base = 10_000_000 * INDEX[name]
    images, notes = [], []
    for label in range(3):
        for data in shape_jpegs(domain, label, count, start):
            number = len(images) + 1
            # The folder's name sorts the classes backwards.
            folder = "test" if split == "test" else f"{split}/{9 - label}"
            file = f"data/{name}/{folder}/{number:06d}.jpg"
            write(top / file, data)
            image = {"id": base + number, "width": 72, "height": 72, "file_name": file}
            note = {"id": base + number, "image_id": base + number, "category_id": base + label + 1}
            images.append(image)
            notes.append({**note, "segmentation": [], "area": 0, "bbox": [], "iscrowd": 0})
    content = {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": notes,
        "categories": [{"id": base + i + 1, "name": f"c{i}", "supercategory": ""} for i in range(3)],
    }
    write(top / "annotations" / f"{name}_{split}.json", json.dumps(content).encode())


def domainnet(root: Path, domains: tuple[str, ...], per_class: int = 4) -> Path:
    """Lists and folders of DomainNet, three classes."""
    for place, domain in enumerate(domains):
        source = ("photo", "art_painting", "sketch", "cartoon")[place % 4]
        for part, start in (("train", 0), ("test", per_class)):
            lines = []
            for label in range(3):
                for number, data in enumerate(shape_jpegs(source, label, per_class, start)):
                    file = f"{domain}/the class {label}/{part} {number}.jpg"
                    write(root / file, data)
                    lines.append(f"{file} {label}")
            write(root / f"{domain}_{part}.txt", "\n".join(lines).encode())
    return root


def segmentation(root: Path, train: int = 3, val: int = 3) -> Path:
    """VOC2011 and SBD; what is darker than the mean of an image is an object; one validation image trains too."""
    sbd, voc = root / "benchmark_RELEASE" / "dataset", root / "VOCdevkit" / "VOC2011"
    files = shape_jpegs("sketch", 3, train + val)
    names = [f"2008_{number:06d}" for number in range(train + val)]
    for place, (name, data) in enumerate(zip(names, files, strict=True)):
        # Two sizes, because the images of VOC have many.
        image = Image.open(io.BytesIO(data)).convert("RGB").crop((0, 0, 72, 72 if place % 2 else 60))
        grey = np.asarray(image.convert("L"))
        label = np.where(grey < grey.mean(), 15, 0).astype(np.uint8)
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=95)
        if place <= train:
            write(sbd / "img" / f"{name}.jpg", encoded.getvalue())
            (sbd / "cls").mkdir(parents=True, exist_ok=True)
            savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": label}})
        if place >= train:
            border = label.copy()
            border[0] = 255
            png = io.BytesIO()
            Image.fromarray(border).save(png, "PNG")
            write(voc / "JPEGImages" / f"{name}.jpg", encoded.getvalue())
            write(voc / "SegmentationClass" / f"{name}.png", png.getvalue())
    write(sbd / "train.txt", "\n".join(names[: train + 1]).encode())
    write(voc / "ImageSets" / "Segmentation" / "val.txt", "\n".join(names[train:]).encode())
    return root


def two_domains(path: Path, per_class: int = 12) -> Path:
    """An npz of three patterns in the domains `red` and `green`, for the benchmark `domainnet`."""
    parts = [patterns(3, per_class, part=place) for place in range(2)]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    np.savez(path, x=x, y=y, domain=np.repeat([0, 1], len(parts[0][1])), domains=np.array(["red", "green"]))
    return path


def packed_set(path: Path, classes: int = 3, per_class: int = 12, seed: int = 0) -> Path:
    """An npz of patterns with `y` and `is_test` (every fourth)."""
    x, y = patterns(classes, per_class, seed)
    np.savez(path, x=x, y=y, is_test=np.arange(len(y)) % 4 == 0)
    return path
