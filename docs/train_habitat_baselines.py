"""Train habitat-baselines' PPO on Sidestep's scenes, without habitat-sim.

    pip install -e ".[habitat]" habitat-baselines==0.3.320260507
    python docs/train_habitat_baselines.py data=FOLDER out=runs/baselines habitat_baselines.num_updates=1000

FOLDER holds scenes and ``{split}/{split}.json.gz``; further words are Hydra overrides of habitat-baselines' config.
habitat-baselines' wheel has no YAML files, so the config that its example names is written beside the results. Its own
evaluation (``habitat_baselines.evaluate=True``) unpickles the checkpoint, which torch 2.6 and later refuse.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# habitat-baselines' environments become threads of this process, in which the stand-ins are.
os.environ.setdefault("HABITAT_ENV_DEBUG", "1")

from envs import habitat_stand_ins

habitat_stand_ins.install()

import habitat_baselines.rl.ppo.ppo_trainer  # noqa: E402, F401 (registers the trainer)
from habitat_baselines.config.default import get_config  # noqa: E402
from habitat_baselines.run import execute_exp  # noqa: E402

import envs.habitat.simulator  # noqa: E402, F401 (registers the simulator)

CONFIG = """# @package _global_
defaults:
  - /benchmark/nav/pointnav: pointnav_habitat_test
  - /habitat_baselines: habitat_baselines_rl_config_base
  - _self_
"""


def main(words: list[str]) -> None:
    """Train as the words say."""
    given = dict(word.split("=", 1) for word in words if word.startswith(("data=", "out=")))
    out = Path(given["out"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "ppo.yaml").write_text(CONFIG)
    settings = [
        "habitat.simulator.type=Sidestep-v0",
        f"habitat.dataset.scenes_dir={given['data']}",
        f"habitat.dataset.data_path='{given['data']}/{{split}}/{{split}}.json.gz'",
        "habitat_baselines.num_environments=2",
        "habitat_baselines.num_checkpoints=1",
        f"habitat_baselines.checkpoint_folder={out}/checkpoints",
        f"habitat_baselines.eval_ckpt_path_dir={out}/checkpoints",
        f"habitat_baselines.tensorboard_dir={out}/tensorboard",
        f"habitat_baselines.video_dir={out}/video",
        f"habitat_baselines.log_file={out}/train.log",
        *(word for word in words if not word.startswith(("data=", "out="))),
    ]
    config = get_config(str((out / "ppo.yaml").absolute()), settings)
    execute_exp(config, "eval" if config.habitat_baselines.evaluate else "train")


if __name__ == "__main__":
    main(sys.argv[1:])
