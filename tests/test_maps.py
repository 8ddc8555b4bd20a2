"""The map beside the film: the path grows along the points that the agent walked."""

from __future__ import annotations

import numpy as np
from PIL import ImageColor

from agents.reports.figures import AGENT
from agents.reports.maps import draw_map_frames

BLUE = np.array(ImageColor.getrgb(AGENT))
ROOM = {
    "navigable": np.ones((40, 80), bool),  # 2 m to the south, 4 m to the east
    "origin": np.array([10.0, -3.0]),
    "cell": 0.05,
    "agent_path": np.array([[11.0, -2.0], [12.0, -2.0], [13.0, -2.0]]),
    "expert_path": np.array([[11.0, -2.0], [13.0, -2.0]]),
    "goal": np.array([13.5, -1.5]),
}


def blue(frame: np.ndarray) -> np.ndarray:
    """(K, 2) rows and columns of pixels in the agent's colour."""
    return np.argwhere((frame == BLUE).all(-1))


def test_the_dot_is_where_the_agent_stands() -> None:
    frames = draw_map_frames(ROOM, 128, 3)
    assert frames.shape == (3, 128, 128, 3) and frames.dtype == np.uint8
    per_metre = 128 / (4.0 + 2 * 0.4)
    for t, x in enumerate((11.0, 12.0, 13.0)):
        right = blue(frames[t])[:, 1].max()
        assert abs(right - (x - 10.0 + 0.4) * per_metre) < 0.12 * per_metre
    # A room of 2 m by 4 m lies in the middle of the square, south below.
    assert abs(blue(frames[0])[:, 0].mean() - 64) < 1


def test_the_path_grows_and_stays_when_the_episode_is_over() -> None:
    frames = draw_map_frames(ROOM, 128, 5)
    counts = [len(blue(frame)) for frame in frames]
    assert counts[0] < counts[1] < counts[2]
    assert (frames[2] == frames[3]).all() and (frames[2] == frames[4]).all()
