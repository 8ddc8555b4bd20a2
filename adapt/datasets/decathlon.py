"""The ten sets of the Visual Decathlon as they are published (Rebuffi et al., NIPS 2017): files, classes, statistics.

`annotations/<set>_<split>.json` is in COCO's format, one annotation per image. The class of an image is the place of
its `category_id` in `categories`; the order of the image folders is another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapt.core.base import Normalisation
from adapt.datasets.images import Labelled
from configs.files import mistaken


class DecathlonSet(NamedTuple):
    """One of the ten sets.

    Attributes:
        classes: number of classes.
        mean: of the training images' channels, in 0..1.
        std: their standard deviation.
        whole: whether training neither crops nor mirrors (characters and signs).
        decay: weight decay of the set in Residual Adapters (CVPR 2018); None for ImageNet, which they do not adapt to.
        spottune_decay: that in SpotTune.
        baseline: top-1 accuracy of the fully fine-tuned networks of NIPS 2017, which the score is relative to.
        finetuned: that of CVPR 2018, which the score is not relative to.
    """

    classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    whole: bool
    decay: float | None
    spottune_decay: float | None
    baseline: float
    finetuned: float

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation."""
        return Normalisation(self.mean, self.std)


def _grey(value: float) -> tuple[float, float, float]:
    return (value, value, value)


SETS: Mapping[str, DecathlonSet] = {
    "imagenet12": DecathlonSet(1000, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False, None, None, 0.5987, 0.6032),
    "aircraft": DecathlonSet(
        100, (0.4798, 0.5107, 0.5344), (0.2107, 0.2051, 0.2373), False, 2e-3, 5e-4, 0.6034, 0.6034
    ),
    "cifar100": DecathlonSet(100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), False, 1e-4, 0.0, 0.8212, 0.8212),
    "daimlerpedcls": DecathlonSet(2, _grey(0.4820), _grey(0.2361), False, 5e-4, 5e-4, 0.9282, 0.9282),
    "dtd": DecathlonSet(47, (0.5270, 0.4703, 0.4240), (0.2523, 0.2409, 0.2499), False, 2e-3, 0.0, 0.5553, 0.5553),
    "gtsrb": DecathlonSet(43, (0.3392, 0.3118, 0.3205), (0.2756, 0.2658, 0.2709), True, 1e-4, 0.0, 0.9753, 0.9942),
    "vgg-flowers": DecathlonSet(
        102, (0.4341, 0.3831, 0.2971), (0.2851, 0.2384, 0.2640), False, 2e-3, 1e-4, 0.8141, 0.8141
    ),
    "omniglot": DecathlonSet(1623, _grey(0.0810), _grey(0.2705), True, 5e-4, 5e-4, 0.8769, 0.8912),
    "svhn": DecathlonSet(10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), True, 1e-4, 0.0, 0.9655, 0.9655),
    "ucf101": DecathlonSet(101, (0.4995, 0.4988, 0.4998), (0.1090, 0.1081, 0.1068), False, 5e-4, 5e-4, 0.5120, 0.5120),
}
"""The sets, in the order in which the papers list them."""

BASELINES: Mapping[str, Mapping[str, float]] = {
    "nips17": {name: each.baseline for name, each in SETS.items()},
    "cvpr18": {name: each.finetuned for name, each in SETS.items()},
}


def decathlon_scores(accuracies: Mapping[str, float], baseline: str = "nips17") -> dict[str, float]:
    """Points of each set: 1000 * (max(0, Emax - E) / Emax)^2 with E = 1 - accuracy.

    Emax is twice the error of the baseline, so that the baseline itself gets 250 points per set, 2500 in all.

    Args:
        accuracies: top-1 accuracy in 0..1 by set.
        baseline: "nips17", which all published scores use; or "cvpr18", the stronger fine-tuned networks.

    Raises:
        ValueError: an unknown set or baseline, or an accuracy that is no fraction.
    """
    if baseline not in BASELINES:
        raise ValueError(f"unknown baseline {baseline!r}; choose from {', '.join(BASELINES)}")
    points = {}
    for name, accuracy in accuracies.items():
        if name not in SETS:
            raise ValueError(f"{name!r} is no set of the decathlon: {', '.join(SETS)}")
        if not 0.0 <= accuracy <= 1.0:
            raise ValueError(f"accuracies are fractions in 0..1, got {accuracy} for {name}")
        largest = 2 * (1 - BASELINES[baseline][name])
        points[name] = 1000 * (max(0.0, largest - (1 - accuracy)) / largest) ** 2
    return points


def decathlon_score(accuracies: Mapping[str, float], baseline: str = "nips17") -> float:
    """The decathlon score S, the sum of `decathlon_scores`; of all ten sets at most 10,000."""
    return sum(decathlon_scores(accuracies, baseline).values())


def read_annotations(root: Path, name: str, split: str) -> tuple[Labelled, tuple[str, ...]]:
    """Images and classes of one split of a set.

    Args:
        root: the folder that holds `annotations` and `data`.
        name: of the set.
        split: "train", "val", or "test" for `<set>_test.json`, the labelled file.

    Returns:
        The images in the order of the annotations, and the names of the classes in the order of `categories`.

    Raises:
        ValueError: the file is not in COCO's format, or its annotations do not fit its images and categories.
    """
    path = root / "annotations" / f"{name}_{split}.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        files = {image["id"]: root / image["file_name"] for image in content["images"]}
        places = {category["id"]: place for place, category in enumerate(content["categories"])}
        classes = tuple(str(category["name"]) for category in content["categories"])
        pairs = [(files[note["image_id"]], places[note["category_id"]]) for note in content["annotations"]]
    except KeyError as error:
        raise ValueError(
            f"{path}: there is no {error.args[0]!r}, which its annotations need; unpack it again"
        ) from error
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError, RecursionError, AttributeError) as error:
        raise ValueError(f"{path} is no annotation file ({mistaken(path) or error}); unpack it again") from error
    if not pairs:
        raise ValueError(f"{path} holds no annotations; the stripped test files have none, labels_test.zip has")
    # File names begin with the folder "data".
    return Labelled([file for file, _ in pairs], np.array([label for _, label in pairs], np.int64)), classes
