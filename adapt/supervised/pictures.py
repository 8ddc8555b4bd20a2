"""Predictions of a few test images after each task of a sequence: kept in the run folder, drawn as in Side-Tuning.

`<run>/pictures/<number>_<task>.npz` is written when a task has been learned: for every task so far `<task>/predicted`,
and for the new one `<task>/images`, `<task>/label` and `<task>/domain` (`adapt.benchmarks.benchmark.Viewed`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adapt.benchmarks.benchmark import TaskData
from adapt.core.decoding import member, read_npz
from adapt.supervised.finished import Finished
from adapt.supervised.learner import TaskTrainer
from adapt.supervised.protocols import Keep
from adapt.training import distributed
from configs.label_pictures import colours, likeliest
from configs.names import nearest
from configs.writing import write_atomically

FOLDER = "pictures"
FIRST = 3  # Tasks that are drawn where none are named.
MOST = 4  # Images that are drawn of each.
CELL = 0.95  # Inches per picture, with its margin.
CAPTION = (
    "Predictions of test images while further tasks are learned (Side-Tuning, Figure 4): input, after each task, label."
)


@dataclass(frozen=True)
class Kept:
    """Kept predictions of a task.

    Attributes:
        domain: which label it is.
        images: uint8 (N,H,W,3).
        label: (N,h,w[,3]) as stored, or (N,classes).
        predicted: the same after the task itself and after each that followed, (tasks,N,...).
    """

    domain: str
    images: NDArray[np.uint8]
    label: NDArray[Any]
    predicted: NDArray[Any]


def keeper(run: Path, count: int, tasks: Sequence[TaskData]) -> Keep | None:
    """The function that keeps predictions of `count` test images in a run folder; None if there is nothing to keep.

    Raises:
        ValueError: there is nothing to see of a task.
    """
    if unseen := [task.name for task in tasks if task.view is None and count]:
        raise ValueError(f"pictures={count}: outputs of {unseen[0]} are no label images; leave it out")
    return partial(_keep, run / FOLDER, count) if count else None


def _keep(folder: Path, count: int, learner: TaskTrainer, tasks: Sequence[TaskData]) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for task in tasks:
        assert task.view is not None
        viewed = task.view(*learner.predict(task, spaced(len(task.test), count)))  # type: ignore[arg-type]
        arrays[f"{task.name}/predicted"] = viewed.predicted
    arrays[f"{task.name}/domain"] = np.array(viewed.domain)
    arrays[f"{task.name}/images"], arrays[f"{task.name}/label"] = viewed.images, viewed.label
    if distributed.is_first():
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        write_atomically(_file(folder, [task.name for task in tasks]), content.getvalue())


def spaced(count: int, wanted: int) -> torch.Tensor:
    """`wanted` of `count` indices (all if there are no more), equally far apart: views of several buildings."""
    wanted = min(wanted, count)
    return torch.arange(wanted) * count // max(1, wanted)


def _file(folder: Path, tasks: Sequence[str]) -> Path:
    return folder / f"{len(tasks):02}_{tasks[-1]}.npz"


def has_kept(run: Finished) -> bool:
    """Whether a run has kept predictions."""
    return (run.path / FOLDER).is_dir()


def read_kept(run: Finished) -> dict[str, Kept]:
    """Kept predictions of a run by task; none where it was not asked to keep any.

    Raises:
        ValueError: a file is absent or damaged.
    """
    folder, tasks = run.path / FOLDER, list(run.result["tasks"])
    if not has_kept(run):
        return {}
    try:
        files = [_file(folder, tasks[: i + 1]) for i in range(len(tasks))]
        content = [read_npz(file) for file in files]
        return {task: _read_task(task, files[i:], content[i:]) for i, task in enumerate(tasks)}
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{error}; restore it, or delete {folder} to go without these pictures") from error


def _read_task(task: str, files: Sequence[Path], content: Sequence[Mapping[str, NDArray[Any]]]) -> Kept:
    domain, images, label = (member(content[0], f"{task}/{part}", files[0]) for part in ("domain", "images", "label"))
    predicted = [member(arrays, f"{task}/predicted", file) for file, arrays in zip(files, content, strict=True)]
    forms = {np.dtype(np.uint8): (3, 4), np.dtype(np.uint16): (3,), np.dtype(np.float32): (2,)}
    if images.dtype != np.uint8 or images.ndim != 4 or label.ndim not in forms.get(label.dtype, ()):
        raise ValueError(f"{files[0]} holds no pictures of {task}")
    for file, array in zip(files, predicted, strict=True):
        if (array.shape, array.dtype) != (label.shape, label.dtype) or len(images) != len(label):
            raise ValueError(f"{file} holds other pictures of {task} than {files[0]}")
    return Kept(str(domain), images, label, np.stack(predicted))


def _shown_tasks(kept: Mapping[str, Mapping[str, Kept]], wanted: Sequence[str] = ()) -> list[str]:
    """The wanted tasks, or the first ones.

    Args:
        kept: by run and task.
        wanted: names of tasks.

    Raises:
        ValueError: there is no such task, or no run has kept anything of the wanted ones.
    """
    known = list(next(filter(None, kept.values()), ()))
    if wanted and not known:
        raise ValueError(f"pictures=[{','.join(wanted)}]: no run has kept predictions; train one with pictures=2")
    for name in wanted:
        if name not in known:
            raise ValueError(f"pictures: there is no task {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return list(wanted) or known[:FIRST]


def _same_images(kept: Mapping[str, Mapping[str, Kept]]) -> dict[str, Mapping[str, Kept]]:
    """The runs that have kept something of the same test images as the first of them that has."""
    some = {name: tasks for name, tasks in kept.items() if tasks}
    first = next(iter(some.values()), {})
    return {
        name: tasks
        for name, tasks in some.items()
        if all(np.array_equal(tasks[task].images, first[task].images) for task in first)
    }


def draw(kept: Mapping[str, Mapping[str, Kept]], tasks: Sequence[str]) -> Figure:
    """Side-Tuning's Figure 4: a block per task, a row per image (`MOST`) and run, a column per number of tasks.

    Args:
        kept: by run and task; tasks in the order of the run.
        tasks: which are drawn.
    """
    orders = [list(by_task) for by_task in kept.values()]
    count, alike = len(orders[0]), all(order == orders[0] for order in orders)
    columns = [f"{i}: {name}" if alike else f"{i} learned" for i, name in enumerate(orders[0], 1)]
    images = min(MOST, *(len(by_task[tasks[0]].images) for by_task in kept.values()))
    rows = len(tasks) * (0.3 + images * len(kept))
    side = 1.0 + 0.08 * max(map(len, kept))
    figure = Figure(figsize=(CELL * (count + 2 + side), CELL * (rows + 0.3)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(-side, count + 2), ylim=(rows + 0.3, 0.0))
    axes.set_axis_off()
    for x, text in enumerate(["input", *columns, "label"]):
        axes.text(x + 0.47, 0.22, text, ha="center", va="bottom", fontsize=6)
    y = 0.3
    for task in tasks:
        axes.text(-side + 0.1, y + 0.2, task, fontsize=9, weight="bold", va="bottom")
        y += 0.3
        for image in range(images):
            for name, by_task in kept.items():
                _row(axes, y, by_task[task], image, list(by_task).index(task), count)
                axes.text(-0.1, y + 0.47, name, ha="right", va="center", fontsize=8)
                y += 1.0
    return figure


def _row(axes: Any, y: float, kept: Kept, image: int, place: int, count: int) -> None:
    """A task's image of one run: input, what was predicted after its own training and later, label."""
    _show(axes, 0, y, kept.images[image])
    for later, predicted in enumerate(kept.predicted[:, image]):
        _cell(axes, 1 + place + later, y, kept, predicted, image)
    _cell(axes, 1 + count, y, kept, kept.label[image], image)


def _cell(axes: Any, x: int, y: float, kept: Kept, values: NDArray[Any], image: int) -> None:
    if values.ndim == 1:
        text = "\n".join(likeliest(values, _class_names(kept.domain), 2)).replace(" ", "\n")
        axes.text(x + 0.47, y + 0.47, text, ha="center", va="center", fontsize=5)
        return
    _show(axes, x, y, colours(kept.domain, values, like=kept.label[image]))


def _show(axes: Any, x: float, y: float, picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture, extent=(x, x + 0.94, y + 0.94, y), aspect="auto", interpolation="nearest")


def _class_names(domain: str) -> dict[int, str]:
    """Names of classes by index: of objects those of ImageNet."""
    if domain != "class_object":
        return {}
    from torchvision.models import ResNet18_Weights  # a second, for this alone

    return dict(enumerate(ResNet18_Weights.DEFAULT.meta["categories"]))


def figure_of(kept: Mapping[str, Mapping[str, Kept]], wanted: Sequence[str] = ()) -> tuple[Figure | None, str]:
    """The figure, None where no run has kept anything, and its caption.

    Args:
        kept: by run and task; runs that have kept nothing, or something of other images, are left out.
        wanted: tasks; by default the first ones.

    Raises:
        ValueError: there is no such task, or no run has kept anything of the wanted ones.
    """
    tasks, same = _shown_tasks(kept, wanted), _same_images(kept)
    others = [name for name in kept if kept[name] and name not in same]
    caption = f"{CAPTION} Left out, as of other images: {', '.join(others)}." if others else CAPTION
    return (draw(same, tasks) if tasks else None), caption
