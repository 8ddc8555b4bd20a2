from __future__ import annotations

from pathlib import Path

from agents.learners.dagger import drop_frames


def test_only_the_ranks_frames_are_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    drop_frames(folder)  # never made
    for name in ("0_of_1", "0_of_2", ".1_of_2"):
        (folder / name).mkdir(parents=True)
    drop_frames(folder, "_of_1")
    assert [p.name for p in folder.iterdir()] == ["0_of_1"]
    (folder / "mine.txt").touch()
    drop_frames(folder)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    drop_frames(folder)
    assert not folder.exists()
