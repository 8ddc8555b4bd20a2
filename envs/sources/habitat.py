"""Scenes of Habitat-Lab's datasets (``env=habitat``), run by Habitat-Lab."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from envs.habitat import egl, stand_ins
from envs.habitat.config import HabitatSplit, rules
from envs.habitat.settings import HabitatConfig
from envs.habitat.vec_env import HabitatScene, dataset_paths, make_scenes
from envs.pointnav.env import PointNavTask
from envs.pointnav.scene_episodes import shard_of
from envs.rendering.renderer import Camera
from envs.sources.findings import DOCS, MISSING, NOTE, OK, Finding, check_split, installed
from envs.sources.source import SceneSource, scene_sources


@scene_sources.register("habitat")
class Habitat(SceneSource):
    """The scenes of a Habitat-Lab config's dataset."""

    Config = HabitatConfig

    def scenes(self, split: str, seed: int, shard: tuple[int, int] = (0, 1)) -> Sequence[HabitatScene]:
        """See `SceneSource.scenes`; the episodes are the dataset's, whatever the seed."""
        return shard_of(make_scenes(HabitatSplit.of(self.env, split)), shard)

    def rules(self, sensors: tuple[str, ...]) -> tuple[PointNavTask, Camera]:
        """See `SceneSource.rules`; Habitat-Lab must be installed."""
        # Which simulator will run does not matter here: a run may be evaluated on another than it was trained on.
        settings = replace(HabitatSplit.of(self.env, self.env["split"]), simulator="sidestep")
        return rules(settings.with_sensors(sensors))

    def simulator(self, device: str) -> str:
        """Habitat-Lab's."""
        return "habitat"

    @classmethod
    def installed(cls, env: Mapping[str, Any] | None) -> Iterator[Finding]:
        """Habitat-Lab, habitat-sim and the EGL device that habitat-sim renders on."""
        yield from check_habitat(env is not None, (env or {}).get("simulator", "sidestep"))

    def check(self, split: str) -> Iterator[Finding]:
        """The dataset's episodes and scenes."""
        if installed("habitat"):
            yield from check_split(*dataset_paths(HabitatSplit.of(self.env, split)))


def check_habitat(needed: bool, simulator: str) -> list[Finding]:
    """Habitat-Lab, habitat-sim and the EGL device that habitat-sim renders on."""
    absent = MISSING if needed else NOTE
    findings = []
    if not installed("habitat"):
        fix = "pip install -e '.[habitat]' (Python 3.10 to 3.12; it pins numpy 1.26, so give it its own environment)"
        findings.append(Finding(absent, "Habitat-Lab is not installed", fix))
    else:
        findings.append(Finding(OK, f"Habitat-Lab {metadata.version('habitat-lab')}"))
    lacking = stand_ins.missing()
    if lacking:
        state = absent if simulator == "habitat_sim" else NOTE
        fix = f"{DOCS} says how to install it; env.simulator=sidestep does without it"
        findings.append(Finding(state, f"habitat-sim is not installed (no {', '.join(lacking)})", fix))
    else:
        findings.append(Finding(OK, "habitat-sim"))
    return [*findings, _check_egl()]


def _check_egl() -> Finding:
    only = "habitat-sim then renders in software (gpu_device_id=-1, set by itself)"
    try:
        cuda, total = egl.cuda_devices()
    except egl.EglMissing as error:
        fix = "apt-get install libegl1 (or your system's Mesa), needed by habitat-sim only"
        return Finding(NOTE, f"no EGL: {error}", fix)
    if not cuda:
        counted = f"{total} device{'' if total == 1 else 's'}"
        return Finding(NOTE, f"EGL has {counted}, none of CUDA; {only}", "for a GPU, install NVIDIA's GL libraries")
    return Finding(OK, f"EGL renders on CUDA device {', '.join(map(str, cuda))}")
