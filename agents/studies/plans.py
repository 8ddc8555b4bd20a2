"""Definitions of the studies: settings of their agents, and the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from agents.learners.settings import PPOConfig
from configs.settings import Count, Range, Settings

METHOD, BASE, TRAJECTORIES, SIZE = "method", "base", "trajectories", "network"
SCRATCH = "scratch"
METHODS = ("features", "side_tuning", SCRATCH, "fine_tune")
Label = str | int


@dataclass(frozen=True)
class StudySettings(Settings):
    """Settings of ``python -m agents.study``.

    Attributes:
        name: imitation: Side-Tuning's Table 3c; reinforcement: Table 3d; data: Figure 7; size: Figure 8.
        out: Folder of runs, recorded trajectories and page; the same command again goes on where it stopped.
        seeds: Each agent is trained once with each.
        methods: Ways to adapt (adapt=); not of size.
        bases: Frozen encoders (base=); scratch, which has none, is trained once for all.
        trajectories: Expert trajectories of imitation (the last number) and data.
        steps: Updates of imitation and data, steps of the environment of the others; null: the experiment's own.
        data: Folder of recorded trajectories; null: recorded into out.
        train: More overrides for every training, such as '["env.agents=16"]'.
        evaluate: More overrides for every evaluation, such as '["+env.splits.val.scenes=10"]'.
        draw: Train nothing, write the page of what is there.
    """

    name: str
    out: str
    seeds: tuple[Annotated[int, Range(0, 2**32 - 1)], ...] = (0, 1, 2)
    methods: tuple[str, ...] = METHODS
    bases: tuple[str, ...] = ("curvature", "denoising", "depth_zbuffer", "normal", "random")
    trajectories: tuple[Count, ...] = (49, 490, 4900)
    steps: Count | None = None
    data: str | None = None
    train: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    draw: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.name in STUDIES, "name", f"one of {', '.join(STUDIES)}")
        for key in ("seeds", "methods", "bases", "trajectories"):
            self.require(bool(getattr(self, key)), key, "at least one")


@dataclass(frozen=True)
class Variant:
    """One setting of a study, trained once with each seed.

    Attributes:
        labels: What it is, by the names of the study's columns.
        overrides: For ``python -m agents.train``, but for ``run`` and ``seed``.
    """

    labels: Mapping[str, Label]
    overrides: Sequence[str]

    @property
    def name(self) -> str:
        """The folder of its runs."""
        return "-".join(str(label).replace("/", "_") for label in self.labels.values() if label != "")


@dataclass(frozen=True)
class Study:
    """A table or figure of a paper.

    Attributes:
        title: What it shows, and where the paper does.
        variants: From the settings to what is trained, in the order in which it is trained.
        expert: Whether it learns from recorded trajectories.
        axis: The label that figures draw the outcome against; empty: bars.
        published: Navigation rewards that the paper printed, by method and base.
    """

    title: str
    variants: Callable[[StudySettings], list[Variant]]
    expert: bool = False
    axis: str = ""
    published: Mapping[tuple[str, str], float] | None = None


def _adapted(methods: Sequence[str], bases: Sequence[str]) -> list[tuple[str, str]]:
    """Methods on bases, the cheapest comparison first; what is trained from scratch has no base."""
    pairs = [(method, base) for base in bases for method in methods if method != SCRATCH]
    return [*pairs, (SCRATCH, "")] if SCRATCH in methods else pairs


def _method_on_base(method: str, base: str) -> list[str]:
    return [f"adapt={method}", *([f"base={base}"] if base else [])]


def _cloned(settings: StudySettings, trajectories: Sequence[int]) -> list[Variant]:
    steps = [] if settings.steps is None else [f"algo.updates={settings.steps}"]
    return [
        Variant(
            {TRAJECTORIES: count, METHOD: method, BASE: base},
            ["experiment=navigation_imitation", f"algo.trajectories={count}", *_method_on_base(method, base), *steps],
        )
        for count in trajectories
        for method, base in _adapted(settings.methods, settings.bases)
    ]


def _reinforced(settings: StudySettings) -> list[Variant]:
    return [
        Variant({METHOD: method, BASE: base}, [*_ppo(settings), *_method_on_base(method, base)])
        for method, base in _adapted(settings.methods, settings.bases)
    ]


def _ppo(settings: StudySettings) -> list[str]:
    return ["experiment=side_tuning_ppo", *([] if settings.steps is None else [f"algo.steps={settings.steps}"])]


def _sizes(settings: StudySettings) -> list[Variant]:
    """Side networks of three widths beside each base, and its fine-tuning in three ways.

    Give distilled encoders (adapt.distill) as smaller bases.
    """
    networks = {f"side {width:g}": ["adapt=side_tuning", f"adapt.width={width}"] for width in (0.25, 0.5, 1.0)}
    # PPO clips the norm of the gradient in all of them (algo.learner.max_grad_norm).
    fine_tuned: dict[str, list[str]] = {
        "fine_tune": [],
        "fine_tune RAdam": ["algo.optimizer=radam"],
        "fine_tune stage-wise": [f"adapt.stage_samples={_first_stage(settings)}"],
    }
    networks |= {name: ["adapt=fine_tune", *words] for name, words in fine_tuned.items()}
    return [
        Variant({SIZE: name, BASE: base}, [*_ppo(settings), f"base={base}", *words])
        for base in settings.bases
        for name, words in networks.items()
    ]


def _first_stage(settings: StudySettings) -> int:
    """Steps in which stage-wise training leaves the copy of the base frozen: the first half."""
    return (settings.steps or PPOConfig().steps) // 2


# Navigation rewards of Side-Tuning's Table 3 (ECCV 2020), by method, for the bases curvature and denoising.
_TABLE_3C = {"fine_tune": (10.5, 9.2), "features": (11.2, 8.2), SCRATCH: (9.4, 9.4), "side_tuning": (11.1, 9.5)}
_TABLE_3D = {"fine_tune": (10.7, 10.0), "features": (11.9, 8.3), SCRATCH: (7.5, 7.5), "side_tuning": (11.8, 10.4)}


def _printed(table: Mapping[str, tuple[float, float]]) -> dict[tuple[str, str], float]:
    return {
        (method, base): reward
        for method, rewards in table.items()
        for base, reward in zip(("curvature", "denoising"), rewards, strict=True)
    }


STUDIES: Mapping[str, Study] = {
    "imitation": Study(
        "Navigation by imitation (Side-Tuning, Table 3c)",
        lambda settings: _cloned(settings, settings.trajectories[-1:]),
        expert=True,
        published=_printed(_TABLE_3C),
    ),
    "reinforcement": Study(
        "Navigation by reinforcement learning (Side-Tuning, Table 3d)", _reinforced, published=_printed(_TABLE_3D)
    ),
    "data": Study(
        "Amount of expert data (Side-Tuning, Figure 7)",
        lambda settings: _cloned(settings, settings.trajectories),
        expert=True,
        axis=TRAJECTORIES,
    ),
    "size": Study("Size of the networks in reinforcement learning (Side-Tuning, Figure 8)", _sizes, axis=SIZE),
}
