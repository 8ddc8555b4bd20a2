"""DomainNet: the same classes in several domains, one task each, one after the other or all at once, as in TAPS.

Also PACS, or any folder of domains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from torchvision.transforms import v2

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, Published, TaskData, benchmarks
from adapt.core.decoding import MOST_CLASSES, texts, whole_numbers
from adapt.datasets.images import Labelled, Splits, class_folders, image_folder, packed_labels, split
from adapt.datasets.layout import missing
from adapt.datasets.packed import read_packed
from adapt.datasets.transforms import centre_cropped, random_resized_crop, squashed
from configs.files import visible
from configs.settings import OneOf, OpenShare, Range

DOMAINS = ("real", "painting", "quickdraw", "clipart", "infograph", "sketch")
_LINE = re.compile(r"(\S.*) (\d+)")


def _rows(
    method: str,
    percent: str,
    protocols: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    encoder: str = "resnet34",
) -> list[Published]:
    """A row of TAPS's tables, accuracies in percent in the order of `DOMAINS`, once per protocol that it is about."""
    scores = Published.fractions(percent, DOMAINS)
    conditions = {"benchmark.size": 224, "benchmark.domains": ([], list(DOMAINS)), **(settings or {})}
    return [Published("TAPS", method, scores, encoder, "imagenet", each, conditions) for each in protocols]


@dataclass(frozen=True)
class DomainNetConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        domains: in this order; DomainNet's six by default, or for other data all that there are.
        size: pixels per side.
        augmentation: "taps": random crops of 8 to 100 % of the area, tested on the middle of 256/224 of `size`;
            "adashare": of 60 to 100 %, tested on the image squashed to a square, which TAPS says it does too.
        test_share: of each class's images that test, where the data has no lists; DomainNet's own lists have 0.3.
        seed: of that split.
    """

    domains: tuple[str, ...] = ()
    size: Annotated[int, Range(8)] = 224
    augmentation: Annotated[str, OneOf("taps", "adashare")] = "taps"
    test_share: OpenShare = 0.3
    seed: int = 0


@benchmarks.register("domainnet")
class DomainNet(Benchmark):
    """One task per domain, all with the same classes."""

    Config = DomainNetConfig
    config: DomainNetConfig
    layout = """
<folder>/                              DomainNet: 345 classes, 6 domains
  <domain>_train.txt                   lines "<domain>/<class>/<file> <label>"
  <domain>_test.txt
  <domain>/<class>/*.jpg               domains: real painting quickdraw clipart infograph sketch
or, split 70:30 by seed, any data with the same classes in each domain, such as PACS:
<folder>/<domain>/<class>/*.jpg
or one npz of images (x, or blob and offset) with y, domain and domains
get it: https://ai.bu.edu/M3SDA, the cleaned version of clipart and painting; unpack all archives in one folder
"""
    published: ClassVar[Sequence[Published]] = (
        # One domain after the other, or each alone, which comes to the same.
        *_rows("fine_tune", "81.51 69.90 73.17 74.08 40.38 67.39", ("single", "sequential"), {"adapt.shared": False}),
        *_rows("adashare", "79.39 65.74 68.15 74.45 34.11 64.15", ("single", "sequential")),
        *_rows("adashare", "78.71 64.01 67.00 73.07 31.19 63.40", ("single", "sequential"), encoder="resnet50"),
        *_rows("taps", "80.28 67.28 71.79 74.85 38.21 66.66", ("single", "sequential"), {"adapt.sparsity": 1.0}),
        *_rows("fine_tune", "75.01 66.13 54.72 75.00 36.35 65.55", ("joint",), {"adapt.shared": True}),
        *_rows("adashare", "76.90 67.90 61.17 75.88 31.52 63.96", ("joint",)),
        *_rows("taps", "78.45 68.23 70.32 77.00 39.35 67.95", ("joint",), {"adapt.joint": "standard"}),
        *_rows("taps", "78.91 67.91 70.18 76.98 39.30 67.81", ("two_stage",)),
    )

    def __init__(self, config: DomainNetConfig) -> None:
        super().__init__(config)
        self.image_size = config.size

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The domains in their order."""
        if data.is_file():
            domains = self._packed(data)
        elif visible(data, "*_train.txt"):
            domains = self._listed(data)
        elif data.is_dir():
            domains = self._folders(data)
        else:
            raise self.absent(data)
        for name, each in domains.items():
            if not len(each.train) or not len(each.test):
                raise self.absent(data, f"has no images to train on, or none to test on, in the domain {name}")
        classes = max((each.classes for each in domains.values()), key=len)
        return [self._task(name, replace(domains[name], classes=classes)) for name in self._chosen(data, domains)]

    def _chosen(self, data: Path, there: Mapping[str, Any]) -> list[str]:
        """The domains to use, out of those that are there."""
        if not self.config.domains:
            return sorted(there, key=lambda name: (DOMAINS.index(name) if name in DOMAINS else len(DOMAINS), name))
        for name in self.config.domains:
            if name not in there:
                raise self.absent(data, f"has no domain {name} (found: {', '.join(there) or 'none'})")
        return list(self.config.domains)

    def _packed(self, path: Path) -> dict[str, Splits]:
        members = read_packed(path)
        if lacking := {"y", "domain", "domains"} - members.keys():
            raise self.absent(path, f"has no {', '.join(sorted(lacking))}")
        labels, names = packed_labels(members, path)
        domains = texts(members, "domains", path)
        where = whole_numbers(members, "domain", path, len(labels), len(domains))
        splits = {}
        for place, domain in enumerate(domains):
            inside = np.flatnonzero(where == place)
            splits[domain] = self._split(Labelled(members["x"][inside], labels[inside]), names)
        return splits

    def _split(self, source: Labelled, classes: tuple[str, ...]) -> Splits:
        return split(source, classes, self.config.test_share, self.config.seed)

    def _folders(self, data: Path) -> dict[str, Splits]:
        domains = {name: class_folders(data / name) for name in class_folders(data)}
        classes = next(iter(domains.values()), [])
        if not classes:
            raise self.absent(data, "has neither lists nor folders of classes")
        for name, others in domains.items():
            if others != classes:
                odd = sorted(set(classes) ^ set(others))[0]
                raise self.absent(
                    data, f"has the class {odd!r} in only one of the domains {next(iter(domains))}, {name}"
                )
        return {name: self._split(image_folder(data / name, classes), tuple(classes)) for name in domains}

    def _listed(self, data: Path) -> dict[str, Splits]:
        there = [path.name.removesuffix("_train.txt") for path in visible(data, "*_train.txt")]
        chosen = self._chosen(data, dict.fromkeys(there))
        wanted = [f"{name}{ending}" for name in chosen for ending in ("_train.txt", "_test.txt", "")]
        if problem := missing(data, wanted):
            raise self.absent(data, problem)
        splits = {}
        for name in chosen:
            train, test = (self._list(data, f"{name}_{part}.txt") for part in ("train", "test"))
            count = 1 + max(int(train.labels.max()), int(test.labels.max()))
            splits[name] = Splits(train, test, tuple(map(str, range(count))))
        return splits

    def _list(self, data: Path, name: str) -> Labelled:
        """Images and classes of one list; labels are the numbers that stand there."""
        files: list[Path] = []
        labels: list[int] = []
        for number, line in enumerate((data / name).read_text().splitlines(), 1):
            if not line.strip():
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise self.absent(data / name, f"has in line {number} {line!r}, not '<domain>/<class>/<file> <label>'")
            files.append(data / match[1])
            labels.append(int(match[2]))
            if labels[-1] >= MOST_CLASSES:
                raise self.absent(data / name, f"has in line {number} the class {match[2][:20]}, which is none")
        if not files:
            raise self.absent(data / name, "is empty")
        if not files[0].is_file():
            raise self.absent(files[0])
        return Labelled(files, np.array(labels, np.int64))

    def _task(self, name: str, parts: Splits) -> TaskData:
        size = self.config.size
        if self.config.augmentation == "taps":
            train, test = random_resized_crop(size), centre_cropped(round(size * 256 / 224), size)
        else:
            train, test = random_resized_crop(size, 0.6), v2.Compose([squashed(size)])
        return self.image_task(name, parts, train, test)
