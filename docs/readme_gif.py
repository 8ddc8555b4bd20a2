"""The film at the top of the README, from an evaluated run: ``python docs/readme_gif.py runs/demo docs/demo.gif``.

Two of the run's held-out episodes that took the longest ways round among those that the agent finished in at most 48
steps, replayed as `agents.evaluate` films them: what the agent sees beside the map of where it goes.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from agents.evaluate import film_clips, load_policy
from agents.evaluation.episodes import policy_actor
from agents.reports.video import write_video
from agents.setup import make_scenes, without_randomisation

CLIPS, STEPS = 2, 48  # of so many frames the film is below 2 MB


def main() -> None:
    """Choose the episodes, replay them, write the film."""
    run, out = map(Path, sys.argv[1:])
    records = [json.loads(line) for line in (run / "eval/val/agent.jsonl").read_text().splitlines()]
    finished = [record for record in records if record["success"] and record["steps"] <= STEPS]
    finished.sort(key=lambda record: record["euclidean_distance"] / record["geodesic_distance"])
    different = {record["scene_id"]: record for record in reversed(finished)}  # the longest way of each scene
    chosen = sorted(different.values(), key=finished.index)[:CLIPS]
    cfg, policy, vision = load_policy(run)
    cfg.env = without_randomisation(cfg.env)
    acting = json.loads((run / "eval/val/versions.json").read_text())
    scenes = make_scenes(cfg.env, "val", acting["seed"])
    actor = partial(policy_actor, policy, acting["temperature"])
    write_video(out, film_clips(cfg, scenes, vision, actor, chosen, acting["seed"]), scale=1, most_frames=STEPS)
    print(f"{out}: {out.stat().st_size:,} bytes; {', '.join(record['scene_id'] for record in chosen)}")


if __name__ == "__main__":
    main()
