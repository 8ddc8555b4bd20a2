"""Miniature datasets in the layouts of their owners, made of small real images (PACS, 72 pixels)."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
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


@lru_cache
def _pacs(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def jpegs(shared: Path, domain: str, label: int, count: int, start: int = 0) -> list[bytes]:
    """Some of the JPEG files of a class of PACS in one domain."""
    members = _pacs(shared / "data" / "pacs_72px_jpeg.npz")
    inside = (members["y"] == label) & (members["domain"] == list(members["domains"]).index(domain))
    chosen = np.flatnonzero(inside)[start : start + count]
    assert len(chosen) == count
    offset = members["offset"]
    return [members["blob"][offset[i] : offset[i + 1]].tobytes() for i in chosen]


def pacs_subset(shared: Path, path: Path, per_class: int) -> Path:
    """An npz as the whole PACS file, with fewer images."""
    members = _pacs(shared / "data" / "pacs_72px_jpeg.npz")
    files = {
        (domain, label): jpegs(shared, name, label, per_class)
        for domain, name in enumerate(members["domains"])
        for label in range(len(members["classes"]))
    }
    blobs = [blob for each in files.values() for blob in each]
    labels = [label for _, label in files for _ in range(per_class)]
    domains = [domain for domain, _ in files for _ in range(per_class)]
    np.savez(
        path,
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        offset=np.cumsum([0, *map(len, blobs)]),
        y=np.array(labels, np.uint8),
        domain=np.array(domains, np.uint8),
        classes=members["classes"],
        domains=members["domains"],
    )
    return path


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def image_folders(shared: Path, root: Path, parts: dict[str, int], classes: int = 3, domain: str = "photo") -> None:
    """`<root>/<part>/class<i>/*.jpg` with that many images per class."""
    start = 0
    for part, count in parts.items():
        for label in range(classes):
            for number, data in enumerate(jpegs(shared, domain, label, count, start)):
                write(root / part / f"class{label}" / f"{number}.jpg", data)
        start += count


def decathlon(shared: Path, root: Path, names: tuple[str, ...], per_class: int = 4, test: bool = False) -> Path:
    """`decathlon-1.0` with three classes per set; folders are in another order than the categories."""
    top = root / "decathlon-1.0"
    for place, name in enumerate(names):
        domain = ("photo", "cartoon", "sketch", "art_painting")[place % 4]
        for split_place, split in enumerate(("train", "val", "test") if test else ("train", "val")):
            _decathlon_split(shared, top, name, domain, split, per_class, split_place * per_class)
    return root


def _decathlon_split(shared: Path, top: Path, name: str, domain: str, split: str, count: int, start: int) -> None:
    base = 10_000_000 * INDEX[name]
    images, notes = [], []
    for label in range(3):
        for data in jpegs(shared, domain, label, count, start):
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


def domainnet(shared: Path, root: Path, domains: tuple[str, ...], per_class: int = 4) -> Path:
    """Lists and folders of DomainNet, three classes."""
    for place, domain in enumerate(domains):
        source = ("photo", "art_painting", "sketch", "cartoon")[place % 4]
        for part, start in (("train", 0), ("test", per_class)):
            lines = []
            for label in range(3):
                for number, data in enumerate(jpegs(shared, source, label, per_class, start)):
                    file = f"{domain}/the class {label}/{part} {number}.jpg"
                    write(root / file, data)
                    lines.append(f"{file} {label}")
            write(root / f"{domain}_{part}.txt", "\n".join(lines).encode())
    return root


def segmentation(shared: Path, root: Path, train: int = 3, val: int = 3) -> Path:
    """VOC2011 and SBD; what is darker than the mean of an image is an object; one validation image trains too."""
    sbd, voc = root / "benchmark_RELEASE" / "dataset", root / "VOCdevkit" / "VOC2011"
    files = jpegs(shared, "sketch", 3, train + val)
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
