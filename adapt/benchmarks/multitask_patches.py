"""Two datasets learned at once by one network, each with a private patch (Mudrakarta et al., ICLR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, Published, TaskData, benchmarks
from adapt.datasets.own import find_set
from adapt.datasets.transforms import centre_cropped, random_resized_crop
from configs.files import visible
from configs.settings import Different, OpenShare, Range


@dataclass(frozen=True)
class MultitaskPatchesConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        sets: names of the datasets.
        sizes: pixels per side of each; 224 and 256 in the paper.
        test_share: of each class's images that test, where a dataset has no test images of its own.
        seed: of that split.
    """

    sets: Annotated[tuple[str, ...], Different()] = ("imagenet", "places")
    sizes: tuple[Annotated[int, Range(8)], ...] = (224, 256)
    test_share: OpenShare = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(len(self.sizes) == len(self.sets), "sizes", "one size per set")


def _row(method: str, imagenet: float, places: float, protocol: str, settings: Mapping[str, Any]) -> Published:
    """A published row."""
    scores = {"accuracy": (imagenet + places) / 2, "imagenet": imagenet, "places": places}
    conditions = {"benchmark.sizes": [224, 256], **settings}
    return Published("Model patches, Table 3", method, scores, "mobilenet_v2", "imagenet", protocol, conditions)


@benchmarks.register("multitask_patches")
class MultitaskPatches(Benchmark):
    """One classification task per dataset, for `protocol=joint adapt=patch adapt.joint=true`."""

    Config = MultitaskPatchesConfig
    config: MultitaskPatchesConfig
    layout = """
<folder>/                              for each name in benchmark.sets one of
  <set>/{train,val}/<class>/*.jpg      (or test for val)
  <set>/<class>/*.jpg                  split 70:30 by seed
  <set>.npz                            images (x, or payload and shape, or blob and offset) with y, and is_test if split
get it: https://image-net.org (ILSVRC 2012) as "imagenet", http://places2.csail.mit.edu (Places365-Standard) as "places"
"""
    published: ClassVar[Sequence[Published]] = (
        # Scale-and-bias patches and last layers private, all else trained together; last layers alone private; two
        # independent networks.
        _row("patch", 0.702, 0.543, "joint", {"adapt.joint": True, "adapt.norm": "trained"}),
        _row("fine_tune", 0.644, 0.514, "joint", {"adapt.shared": True}),
        _row("fine_tune", 0.718, 0.542, "single", {"adapt.shared": False}),
    )

    def __init__(self, config: MultitaskPatchesConfig) -> None:
        super().__init__(config)
        self.image_size = config.sizes[0]

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The datasets, in the order of the settings."""
        if not data.is_dir():
            raise self.absent(data)
        return [self._task(data, name, size) for name, size in zip(self.config.sets, self.config.sizes, strict=True)]

    def _task(self, data: Path, name: str, size: int) -> TaskData:
        # "cifar10" does not mean cifar100.npz.
        packed = [path for path in visible(data, f"{name}*.npz") if not path.name[len(name)].isalnum()]
        files = [data / name] if (data / name).exists() else packed
        if not files:
            raise self.absent(data, f"has neither a folder {name} nor a file {name}*.npz")
        if len(files) > 1:
            raise self.absent(data, f"has more than one {name}*.npz ({', '.join(path.name for path in files)})")
        splits = find_set(files[0], self.config.test_share, self.config.seed)
        if not len(splits.train) or not len(splits.test):
            raise self.absent(files[0], "has no images to train on or to test on")
        test = centre_cropped(round(size * 256 / 224), size)
        return self.image_task(name, splits, random_resized_crop(size), test)
