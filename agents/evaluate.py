"""``python -m agents.evaluate run=runs/a env.split=val``: every held-out episode once, and the reference rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from agents.evaluation import Act, expert_actor, policy_actor, random_actor, run_episodes
from agents.policy import NavigationPolicy
from agents.report import terminal_table, write_report
from agents.run import list_checkpoints, load_checkpoint, load_config, versions, write_text
from agents.setup import Vision, make_places, make_policy, make_vision
from agents.video import write_video
from configs.compose import cli
from envs.pointnav import Place, PointNav

MEASURES = ("success", "spl", "soft_spl", "distance_to_goal", "nav_reward", "collisions")
PICTURED, FILMED = 6, 4
FILM_SIZE = 128


def load_policy(path: Path, untrained: bool = False) -> tuple[DictConfig, NavigationPolicy, Vision]:
    """Config, policy and vision of a run, with the weights of its newest checkpoint.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint yet.
        ValueError: The checkpoint is damaged or was trained on another base.
    """
    cfg = load_config(path)
    files = list_checkpoints(path)
    if not files and not untrained:
        raise FileNotFoundError(f"{path} has no checkpoint yet; train it first (python -m agents.train run={path} ...)")
    vision = make_vision(cfg)
    policy = make_policy(cfg, vision)
    if not untrained:
        policy.load_own_state(load_checkpoint(files[-1], vision.base_sha256)["policy"])
    return cfg, policy, vision


def _write_records(file: Path, records: list[dict[str, Any]]) -> None:
    write_text(file, "".join(json.dumps(r) + "\n" for r in records))


def _chosen(records: list[dict[str, Any]], count: int) -> list[int]:
    """Indices of `count` episodes spread evenly over the detour ratio, the easiest and the hardest among them."""
    ratio = [r["geodesic_distance"] / max(r["euclidean_distance"], 1e-6) for r in records]
    order = np.argsort(ratio, kind="stable")
    return [int(order[i]) for i in np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))]


def _episode(places: list[Place], record: dict[str, Any]) -> Place:
    """The place of a record, reduced to its one episode."""
    place = next(p for p in places if p.scene.name == record["scene_id"])
    only = tuple(e for e in place.episodes if e.episode_id == record["episode_id"])
    return Place(place.scene, place.grid, only)


def _write_top_downs(folder: Path, places: list[Place], records: list[dict[str, Any]]) -> None:
    """Walkable area, the agent's path and the expert's for a few episodes (`agents.report` draws them)."""
    for i, index in enumerate(_chosen(records, PICTURED)):
        record = records[index]
        place = _episode(places, record)
        episode = place.episodes[0]
        start = np.asarray(episode.start_position)
        navigable, origin, cell = place.grid.top_down(int(place.grid.island(start[None])[0]))
        field = place.grid.field(np.asarray(episode.goal_position))
        np.savez_compressed(
            folder / f"topdown_{i}.npz",
            navigable=navigable,
            origin=origin,
            cell=cell,
            agent_path=np.asarray(record["path"]),
            expert_path=place.grid.path(field, start)[:, [0, 2]],
            start=start[[0, 2]],
            goal=np.asarray(episode.goal_position)[[0, 2]],
            scene_id=record["scene_id"],
            episode_id=record["episode_id"],
            success=record["success"],
            spl=record["spl"],
        )


def _film(
    cfg: DictConfig,
    folder: Path,
    places: list[Place],
    vision: Vision,
    actor: Callable[[], Act],
    records: list[dict[str, Any]],
) -> None:
    """Replay a few episodes and keep what the agent saw, drawn at a size that a person can see."""
    clips = []
    for index in _chosen(records, FILMED):
        frames: list[np.ndarray[Any, Any]] = []

        def look(nav: PointNav, frames: list[np.ndarray[Any, Any]] = frames) -> None:
            camera = type(nav.camera)(**{**vars(nav.camera), "size": FILM_SIZE})
            assert nav.renderer is not None
            a = nav.agents
            frames.append(nav.renderer.render(a.place, a.position, a.heading, camera, ("rgb",))["rgb"][0])

        record = run_episodes(cfg, [_episode(places, records[index])], vision, actor(), cfg.seed, look)[0]
        outcome = "reached" if record["success"] else "missed"
        clips.append((np.stack(frames), f"{record['scene_id']}: goal {outcome} in {record['steps']} steps"))
    write_video(folder / "video.gif", clips, scale=2)


def _merged(cfg: DictConfig, changes: dict[Any, Any]) -> DictConfig:
    made = OmegaConf.merge(cfg, changes)
    assert isinstance(made, DictConfig)
    return made


@cli("evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate a run and its reference rows, write records, numbers and the report."""
    run_path = Path(cfg.run)
    started = time.monotonic()
    trained, policy, vision = load_policy(run_path, cfg.untrained)
    split = cfg.env.split
    changes = {key: value for key, value in cfg.env.items() if key != "split"}
    trained = _merged(trained, {"env": changes})
    temperature = trained.evaluation.temperature if cfg.temperature is None else cfg.temperature
    places = make_places(trained.env, split, cfg.seed)
    folder = run_path / "eval" / split
    folder.mkdir(parents=True, exist_ok=True)
    unseen = Vision(None, None)
    agent = run_episodes(trained, places, vision, policy_actor(policy, temperature), cfg.seed)
    rows: dict[str, list[dict[str, Any]]] = {"agent": agent}
    blind_cfg = _merged(trained, {"blind": True})
    if cfg.blind is not None:
        other, blind_policy, _ = load_policy(Path(cfg.blind))
        if not other.blind:
            raise ValueError(f"blind={cfg.blind} holds an agent that sees; train one with blind=true")
        rows["blind"] = run_episodes(blind_cfg, places, unseen, policy_actor(blind_policy, temperature), cfg.seed)
    if cfg.references:
        rows["random"] = run_episodes(blind_cfg, places, unseen, random_actor, cfg.seed)
        rows["expert"] = run_episodes(blind_cfg, places, unseen, expert_actor, cfg.seed)
    for name, records in rows.items():
        _write_records(folder / f"{name}.jsonl", records)
    write_text(folder / "versions.json", json.dumps({**versions(cfg.seed), "temperature": temperature}, indent=1))
    _write_top_downs(folder, places, rows["agent"])
    if not trained.blind and cfg.video:
        _film(trained, folder, places, vision, lambda: policy_actor(policy, temperature), rows["agent"])
    _write_numbers(run_path, rows, places, round(time.monotonic() - started, 1))
    print(terminal_table(rows))  # noqa: T201 (the command's output)
    print(f"report: {write_report(run_path, split)}")  # noqa: T201


def _write_numbers(run_path: Path, rows: dict[str, list[dict[str, Any]]], places: list[Place], seconds: float) -> None:
    """Merge the means of all rows into the run's ``result.json``."""
    numbers: dict[str, Any] = {"episodes": len(rows["agent"]), "scenes": len(places), "eval_seconds": seconds}
    for name, records in rows.items():
        prefix = "" if name == "agent" else f"{name}."
        for key in MEASURES:
            numbers[f"{prefix}{key}"] = float(np.mean([r[key] for r in records]))
    file = run_path / "result.json"
    old = json.loads(file.read_text()) if file.exists() else {}
    numbers["seconds"] = round(float(old.get("train_seconds", 0.0)) + seconds, 1)
    write_text(file, json.dumps({**old, **numbers}, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
