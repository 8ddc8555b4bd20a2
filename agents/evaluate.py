"""``python -m agents.evaluate run=runs/a env.split=val``: every held-out episode once, and the reference rows."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError

from adapt.training.distributed import refuse_ranks
from adapt.training.files import to_json
from adapt.training.run import list_checkpoints, load_checkpoint, load_config, versions, write_text
from adapt.training.run_files import read_checked
from adapt.training.state import entry_of, reading
from agents.evaluation.episodes import (
    Act,
    averages_mirror_views,
    expert_actor,
    policy_actor,
    random_actor,
    run_episodes,
)
from agents.evaluation.folder import UNTRAINED, prepare, replaced
from agents.policies.policy import Policy
from agents.reports.evaluation import terminal_table, write_report
from agents.reports.files import NUMBERS
from agents.reports.maps import draw_map_frames
from agents.reports.results import read_training
from agents.reports.video import Clip, write_video
from agents.settings import EvaluateSettings, TrainSettings
from agents.setup import (
    Scenes,
    VisualEncoder,
    actions_of,
    can_mirror,
    check_actions,
    check_spaces,
    make_policy,
    make_scenes,
    make_visual_encoder,
    without_randomisation,
)
from configs.compose import check, cli, compose
from configs.writing import write_atomically
from envs.pointnav.scene_episodes import SceneEpisodes
from envs.pointnav.simulator import Simulator

MEASURES = ("success", "spl", "soft_spl", "distance_to_goal", "nav_reward", "collisions")
PICTURED, FILMED = 6, 4
FILM_SIZE, FILM_SCALE = 128, 2  # pixels as rendered, and how often each is repeated
AGENT = "agent"


def load_policy(path: Path, untrained: bool = False) -> tuple[DictConfig, Policy, VisualEncoder]:
    """Config, policy and vision of a run, with the weights of its newest checkpoint.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint yet.
        ValueError: The checkpoint is damaged or was trained on another base.
    """
    cfg = load_config(path, "train")
    files = list_checkpoints(path)
    if not files and not untrained:
        raise FileNotFoundError(f"{path} has no checkpoint yet; train it first (python -m agents.train run={path} ...)")
    vision = make_visual_encoder(cfg)
    policy = make_policy(cfg, vision)
    if not untrained:
        state = load_checkpoint(files[-1], vision.base_sha256)
        with reading(files[-1]):
            policy.load_own_state(entry_of(state, "policy"))
    return cfg, policy, vision


def _chosen(records: list[dict[str, Any]], count: int) -> list[int]:
    """Indices of `count` episodes spread evenly over the detour ratio, the easiest and the hardest among them."""
    ratio = [r["geodesic_distance"] / max(r["euclidean_distance"], 1e-6) for r in records]
    order = np.argsort(ratio, kind="stable")
    return [int(order[i]) for i in np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))]


def _episode(scenes: Scenes, record: dict[str, Any]) -> SceneEpisodes:
    """The place of a record, reduced to its one episode."""
    place = next(p for p in scenes if p.name == record["scene_id"])
    return place.only([e for e in place.episodes if e.episode_id == record["episode_id"]])


def _top_down(scenes: Scenes, record: dict[str, Any]) -> dict[str, Any]:
    """Walkable area, the agent's path and the expert's of one record (`agents.reports.figures.draw_top_down`)."""
    place = _episode(scenes, record)
    plan = place.floor_plan(place.episodes[0])
    return {
        "navigable": plan["navigable"],
        "origin": plan["origin"],
        "cell": plan["cell"],
        "expert_path": plan["expert_path"],
        "agent_path": np.asarray(record["path"]),
        "start": np.asarray(place.episodes[0].start_position)[[0, 2]],
        "goal": np.asarray(record["goal"])[[0, 2]],
        "scene_id": record["scene_id"],
        "episode_id": record["episode_id"],
        "success": record["success"],
        "spl": record["spl"],
    }


def _write_records(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """A line for each episode, in a file for each row."""
    for row, records in rows.items():
        write_text(folder / f"{row}.jsonl", "".join(to_json(record) + "\n" for record in records))


def _write_top_downs(folder: Path, scenes: Scenes, records: list[dict[str, Any]]) -> None:
    """What `agents.report` draws of a few episodes."""
    for i, index in enumerate(_chosen(records, PICTURED)):
        drawn = io.BytesIO()
        np.savez_compressed(drawn, **_top_down(scenes, records[index]))
        write_atomically(folder / f"topdown_{i}.npz", drawn.getvalue())


def film_clips(
    cfg: DictConfig,
    scenes: Scenes,
    vision: VisualEncoder,
    actor: Callable[[], Act],
    records: list[dict[str, Any]],
    seed: int,
) -> list[Clip]:
    """Replay episodes: what the agent saw, at a size that a person can see, beside the map of where it went.

    Args:
        cfg: As for `run_episodes`.
        scenes: Where the episodes are.
        vision: What the policy looks through.
        actor: Makes an actor for each episode.
        records: The episodes.
        seed: Of the sampling noise when they were first played.

    Returns:
        For each record, frames (T, H, 2 H, 3) uint8 and a caption.
    """
    clips = []
    for chosen in records:
        frames: list[np.ndarray[Any, Any]] = []

        def look(nav: Simulator, frames: list[np.ndarray[Any, Any]] = frames) -> None:
            frames.append(nav.picture(FILM_SIZE)[0])

        record = run_episodes(cfg, [_episode(scenes, chosen)], vision, actor(), seed, look)[0]
        views = np.stack(frames).repeat(FILM_SCALE, axis=1).repeat(FILM_SCALE, axis=2)
        maps = draw_map_frames(_top_down(scenes, record), views.shape[1], len(views))
        outcome = "reached" if record["success"] else "missed"
        caption = f"{record['scene_id']}: goal {outcome} in {record['steps']} steps"
        clips.append((np.concatenate([views, maps], axis=2), caption))
    return clips


def _merged(cfg: DictConfig, changes: dict[Any, Any]) -> DictConfig:
    """A config with some keys changed.

    Raises:
        ValueError: A key that the config does not have, or a value of another type.
    """
    OmegaConf.set_struct(cfg, True)
    try:
        merged = OmegaConf.merge(cfg, changes)
    except ConfigKeyError as error:
        raise ValueError(f"the run's config has no key {error.full_key}; see its config.yaml") from error
    assert isinstance(merged, DictConfig)
    check(merged, TrainSettings)
    return merged


@cli("evaluate", EvaluateSettings)
def main(cfg: DictConfig) -> None:
    """Evaluate a run and its reference rows, write records, numbers and the report."""
    refuse_ranks("agents.evaluate")
    run_path = Path(cfg.run)
    started = time.monotonic()
    trained, policy, vision = load_policy(run_path, cfg.untrained)
    blind = _load_blind(cfg, trained)
    env = without_randomisation(trained.env) if cfg.scene is None else _elsewhere(trained.env, cfg.scene)
    OmegaConf.update(trained, "env", env, merge=False, force_add=True)
    actions = actions_of(trained)
    trained = _merged(trained, {"env": {key: value for key, value in cfg.env.items() if key != "split"}})
    check_actions(trained, (actions,), f"the agent in {run_path}")
    check_spaces(trained, vision, policy, f"the agent in {run_path}")
    temperature = trained.evaluation.temperature if cfg.temperature is None else cfg.temperature
    _set_mirror(trained, cfg.mirror)
    blind_cfg, no_vision = _merged(trained, {"blind": True}), VisualEncoder(None, None)
    if blind is not None:
        check_spaces(blind_cfg, no_vision, blind, f"blind={cfg.blind}")
    scenes = make_scenes(trained.env, cfg.env.split, cfg.seed)
    label = _evaluation_name(trained.env, cfg)
    read_training(run_path)  # what is damaged would stop the report
    folder = prepare(run_path, label)
    with contextlib.nullcontext(folder) if cfg.untrained else replaced(folder) as place:
        act = policy_actor(policy, temperature)
        rows = {UNTRAINED if cfg.untrained else AGENT: run_episodes(trained, scenes, vision, act, cfg.seed)}
        if blind is not None:
            rows["blind"] = run_episodes(blind_cfg, scenes, no_vision, policy_actor(blind, temperature), cfg.seed)
        if cfg.references and not cfg.untrained:
            rows["random"] = run_episodes(blind_cfg, scenes, no_vision, random_actor, cfg.seed)
            rows["expert"] = run_episodes(blind_cfg, scenes, no_vision, expert_actor, cfg.seed)
        _write_records(place, rows)
        if not cfg.untrained:
            acting = {"temperature": temperature, "mirror": averages_mirror_views(trained)}
            write_text(place / "versions.json", to_json({**versions(cfg.seed), **acting}, indent=1))
            _write_top_downs(place, scenes, rows[AGENT])
            if cfg.video and not trained.blind:
                filmed = [rows[AGENT][i] for i in _chosen(rows[AGENT], FILMED)]
                clips = film_clips(
                    trained, scenes, vision, partial(policy_actor, policy, temperature), filmed, cfg.seed
                )
                write_video(place / "video.gif", clips, scale=1)
    _write_numbers(run_path, label, rows, len(scenes), round(time.monotonic() - started, 1))
    print(terminal_table(rows))  # noqa: T201 (the command's output)
    if not cfg.untrained:
        print(f"report: {write_report(run_path, label)}")  # noqa: T201


def _set_mirror(trained: DictConfig, mirror: bool | None) -> None:
    """Whether decisions are averaged with those in the mirror image; None: as the run has it."""
    if mirror and not can_mirror(trained):
        raise ValueError(f"mirror=true: no agent with env={trained.env.name} was mirrored in training; leave it out")
    if mirror is not None:
        OmegaConf.update(trained, "evaluation.mirror", mirror, force_add=True)


def _elsewhere(env: DictConfig, scene: str) -> DictConfig:
    """A mesh as the environment, for agents with the body, camera and rules that they were trained with."""
    there = compose("train", ["env=scans", "run=none"]).env
    own = {key: env[key] for key in ("agents", "backend", "body", "camera", "task") if key in env}
    merged = OmegaConf.merge(there, own, {"scene": scene})
    assert isinstance(merged, DictConfig)
    return merged


def _evaluation_name(env: DictConfig, cfg: DictConfig) -> str:
    """What an evaluation is called: the mesh, or the split, and how it looks if otherwise than usual."""
    if cfg.scene is not None:
        return Path(cfg.scene).stem
    looks = env.get("appearance", "plain")
    return str(cfg.env.split) if looks == "plain" else f"{cfg.env.split}-{looks}"


def _load_blind(cfg: DictConfig, trained: DictConfig) -> Policy | None:
    """The blind agent to compare with, checked before any episode runs."""
    if cfg.blind is None:
        return None
    other, policy, _ = load_policy(Path(cfg.blind))
    check_actions(trained, (actions_of(other),), f"blind={cfg.blind}")
    if not other.blind:
        raise ValueError(f"blind={cfg.blind} holds an agent that sees; train one with blind=true")
    return policy


def _write_numbers(
    run_path: Path, split: str, rows: dict[str, list[dict[str, Any]]], scenes: int, seconds: float
) -> None:
    """Merge the means of all rows into the run's ``result.json``."""
    file = run_path / "result.json"
    numbers = read_checked(file, NUMBERS)
    if AGENT in rows:
        numbers = {key: value for key, value in numbers.items() if "." not in key or key.startswith(UNTRAINED)}
        numbers.update(split=split, episodes=len(rows[AGENT]), scenes=scenes, eval_seconds=seconds)
        numbers["seconds"] = round((numbers.get("train_seconds") or 0.0) + seconds, 1)
    for name, records in rows.items():
        prefix = "" if name == AGENT else f"{name}."
        for key in MEASURES:
            numbers[f"{prefix}{key}"] = float(np.mean([r[key] for r in records]))
    write_text(file, to_json(numbers, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
