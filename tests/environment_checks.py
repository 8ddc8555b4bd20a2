"""Gymnasium's and Stable-Baselines3's own checks of an environment."""

from __future__ import annotations

import warnings

from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from envs.pointnav.vec_env import PointNavEnv


def check_officially(env: PointNavEnv) -> None:
    """Run both with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Remarks, not faults: the goal's distance has no upper bound, and depth is an image of floats.
        warnings.filterwarnings("ignore", message=".*infinity.*")
        warnings.filterwarnings("ignore", message=".*observation.* depth is an image.*")
        warnings.filterwarnings("ignore", message=".*minimal resolution.*")
        gymnasium_check(env, skip_render_check=True)
        sb3_check(env)
