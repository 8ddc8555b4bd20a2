"""Run folder contents for reports: records, learning curve, top-down maps, film; what is damaged is named."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from adapt.training.run_files import Seconds, check_value
from agents.evaluation.statistics import Record
from configs.array_cache import DAMAGE, read_arrays
from configs.files import is_there, mistaken
from configs.settings import Range, Share

Amount = Annotated[float, Range(0, 1e9)]
# What must be in each record, and what it is.
RECORD: Mapping[str, Any] = {
    "scene_id": str,
    "episode_id": str,
    "success": Share,
    "spl": Share,
    "soft_spl": Share,
    "distance_to_goal": Amount,
    "collisions": Amount,
    "nav_reward": Annotated[float, Range(-1e9, 1e9)],
    "steps": Amount,
    "geodesic_distance": Amount,
    "euclidean_distance": Amount,
}
NUMBERS: Mapping[str, Any] = {"seconds": Seconds, "train_seconds": Seconds}
LAST_STEP, LARGEST = 2**53, 1e30  # of a learning curve
LARGEST_TOP_DOWN = 1 << 28  # bytes
EVALUATE_AGAIN = "evaluate the run again"


def read_records(file: Path) -> list[Record]:
    """Records of an evaluation.

    Raises:
        ValueError: There are none, an episode comes twice, or a record lacks a key or holds something else there.
    """
    records: dict[tuple[str, str], Record] = {}
    for where, text in _lines(file):
        record = _parse(text, where, EVALUATE_AGAIN)
        for key, kind in RECORD.items():
            if key not in record:
                raise ValueError(f"{where} lacks {key!r}; {EVALUATE_AGAIN}")
            check_value(kind, record[key], key, where, EVALUATE_AGAIN)
        episode = record["scene_id"], record["episode_id"]
        if episode in records:
            raise ValueError(f"{where}: episode {episode[1]} of {episode[0]} comes twice; {EVALUATE_AGAIN}")
        records[episode] = record
    if not records:
        raise ValueError(f"{file} holds no episodes; {EVALUATE_AGAIN}")
    return list(records.values())


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Lines of a learning curve by rising step; none without a file.

    A line cut off by a kill ends the file. A run that was killed and resumed repeats steps: the later lines
    count.

    Raises:
        ValueError: A line before the last is damaged, or lacks its step.
    """
    lines: dict[float, dict[str, float]] = {}
    last = -math.inf
    raw = _lines(file) if is_there(file) else []
    for number, (where, text) in enumerate(raw, 1):
        try:
            line = _parse(text, where, "delete the line")
        except ValueError:
            if number < len(raw):
                raise
            break
        numbers = {key: float(value) for key, value in line.items() if _is_number(value)}
        step = numbers.get("step", -1.0)
        if not 0 <= step <= LAST_STEP:
            raise ValueError(f"{where} has no finite 'step'; delete the line")
        if step <= last:
            lines = {s: earlier for s, earlier in lines.items() if s < step}
        lines[step], last = numbers, step
    return list(lines.values())


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a curve can show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _lines(file: Path) -> Sequence[tuple[str, str]]:
    """The lines of a file that are not empty, each after where it stands.

    Raises:
        ValueError: The file is something else, such as a web page.
    """
    is_there(file)
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    if text and (reason := mistaken(file)):
        raise ValueError(f"cannot read {file}: {reason}")
    lines = enumerate(text.split("\n"), 1)
    return [(f"{file} line {number}", line) for number, line in lines if line.strip()]


def _parse(line: str, where: str, advice: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); {advice}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a JSON object; {advice}")
    return value


def read_top_down(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of one ``topdown_*.npz``, as `agents.reports.figures.draw_top_down` takes them.

    Raises:
        ValueError: The file is damaged.
    """
    is_there(file)
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError(mistaken(file) or "it is incomplete, or no .npz file")
        with zipfile.ZipFile(file) as archive:
            if sum(part.file_size for part in archive.infolist()) > LARGEST_TOP_DOWN:
                raise ValueError("it is too large")
        arrays = read_arrays(file)
        points = {name: np.asarray(arrays[name], np.float64) for name in ("origin", "start", "goal")}
        paths = {name: np.asarray(arrays[name], np.float64) for name in ("agent_path", "expert_path")}
        shapes = [array.shape == (2,) for array in points.values()]
        shapes += [path.ndim == 2 and path.shape[1] == 2 and len(path) > 0 for path in paths.values()]
        if not all(shapes) or arrays["navigable"].ndim != 2 or not 1e-3 <= float(arrays["cell"]) <= 1e3:
            raise ValueError("its arrays have other shapes")
        if not all(np.isfinite(array).all() for array in (*points.values(), *paths.values())):
            raise ValueError("it holds numbers that are not finite")
        for name in ("scene_id", "episode_id", "success", "spl"):
            _ = arrays[name].item()
    except DAMAGE as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{file} is damaged ({reason}); {EVALUATE_AGAIN}") from error
    return {**arrays, **points, **paths}


def find_film(folder: Path) -> Path | None:
    """The film of what the agent saw, a GIF or an MP4 file; None if there is none.

    Raises:
        ValueError: It is another file, or it was cut off.
    """
    for file in (folder / "video.gif", folder / "video.mp4"):
        if is_there(file):
            if not (_is_whole_gif if file.suffix == ".gif" else _is_whole_mp4)(file.read_bytes()):
                reason = mistaken(file) or f"it is no {file.suffix[1:].upper()} file, or was cut off"
                raise ValueError(f"{file} is damaged ({reason}); {EVALUATE_AGAIN}, or delete it")
            return file
    return None


def _is_whole_gif(content: bytes) -> bool:
    return content.startswith(b"GIF8") and content.endswith(b";")


def _is_whole_mp4(content: bytes) -> bool:
    """Whether boxes, each after its length (ISO 14496-12, 4.2), fill a file from ``ftyp`` on, ``moov`` among them."""
    kinds, place = [], 0
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        if size == 1:  # the length follows in eight bytes
            size = int.from_bytes(content[place + 8 : place + 16], "big")
        kinds.append(kind)
        rest = len(content) - place
        place += size if size >= 8 else rest if size == 0 else rest + 1  # 0: up to the end; others are no lengths
    return place == len(content) and kinds[:1] == [b"ftyp"] and b"moov" in kinds
