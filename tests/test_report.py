from __future__ import annotations

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageSequence
from run_folders import RATES, VERSIONS, clip, records, write_lines, write_run

from agents.evaluation.statistics import summarise
from agents.report import main
from agents.reports.comparison import write_comparison
from agents.reports.evaluation import terminal_table, write_report
from agents.reports.figures import AGENT, EXPERT, GOAL, smooth
from agents.reports.results import read_results
from agents.reports.video import HOLD_SECONDS, MAX_PAGES, write_video


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "a")


class Page(HTMLParser):
    """Attributes by tag, and the text of every section by its id."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.feed(file.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("section", "details") and dict(attrs).get("id"):
            self.section = str(dict(attrs)["id"])

    def handle_data(self, data: str) -> None:
        self.text[self.section] = self.text.get(self.section, "") + data + " "

    def sources(self) -> list[str]:
        return [str(v) for _, attrs in self.tags for k, v in attrs.items() if k in ("src", "srcset", "href", "poster")]


def test_every_number_of_the_table_is_that_of_the_records(run: Path) -> None:
    results = Page(write_report(run)).text["results"]
    for rate in RATES.values():
        found = summarise(records(rate))
        for measure, digits in (("success", 3), ("spl", 3), ("distance_to_goal", 2), ("nav_reward", 2)):
            s = found[measure]
            for number in (f"{s.mean:.{digits}f}", f"[{s.low:.{digits}f}, {s.high:.{digits}f}]"):
                assert number in results


def test_the_page_needs_no_network(run: Path) -> None:
    page = Page(write_report(run))
    assert page.sources()
    assert all(source.startswith("data:") for source in page.sources())
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (run / "report.html").read_text())
    assert not re.search(r"https?://|url\(|@import", bare)


def test_six_paths_the_film_and_the_curves_are_real_pictures(run: Path) -> None:
    page = Page(write_report(run))
    kinds = [attrs.get("class") for tag, attrs in page.tags if tag == "figure"]
    assert kinds.count("path") == 6
    assert kinds.count("curve") == 2
    assert kinds.count("film") == 1
    for source in page.sources():
        head, _, data = source.partition(",")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        image.load()
        assert head == f"data:image/{str(image.format).lower()};base64"
    assert page.text["paths"].count("Success") == 3


def test_the_page_tells_how_to_make_it_again(run: Path) -> None:
    text = Page(write_report(run)).text
    for told in (
        VERSIONS["command"],
        "python -m agents.evaluate run=runs/a",
        "seed 7",
        "0123456789abcdef",
        "torch 2.15.0",
    ):
        assert str(told) in text["reproduce"]
    assert "40 in 8 scenes" in " ".join(text["reproduce"].split())
    assert "side_tuning" in text[""]
    assert text["scenes"].count("flat_") == 8


def test_what_is_missing_is_said_in_a_sentence(run: Path) -> None:
    folder = run / "eval" / "val"
    for file in [*run.glob("*.json*"), run / "config.yaml", *folder.iterdir()]:
        if file.name != "agent.jsonl":
            file.unlink()
    text = {name: " ".join(part.split()) for name, part in Page(write_report(run)).text.items()}
    assert "no row of a blind agent" in text["results"]
    assert "No learning curve" in text["learning"]
    assert "No paths were drawn" in text["paths"]
    assert "No film was made" in text["film"]
    assert "cannot be made again" in text["reproduce"]


def test_what_cannot_be_reported_is_an_error_of_one_line(run: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        write_report(run / "absent")
    with pytest.raises(FileNotFoundError, match=r"no evaluation on 'test'; evaluated: val; .*env.split=test"):
        write_report(run, "test")
    file = run / "eval" / "val" / "agent.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], '{"scene_id": "x"}']))
    with pytest.raises(ValueError, match=r"agent.jsonl line 3 lacks 'episode_id'"):
        write_report(run)
    file.write_text("\n".join([lines[0], lines[1][:20]]))
    with pytest.raises(ValueError, match=r"agent.jsonl line 2 is not JSON"):
        write_report(run)
    file.write_text("")
    with pytest.raises(ValueError, match="holds no episodes"):
        write_report(run)


def test_a_damaged_path_file_is_named(run: Path) -> None:
    (run / "eval" / "val" / "topdown_0.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"topdown_0.npz is damaged"):
        write_report(run)


def test_names_from_a_run_are_escaped(run: Path) -> None:
    file = run / "eval" / "val" / "agent.jsonl"
    file.write_text(file.read_text().replace("flat_0", "<script>alert(1)</script>"))
    assert not [tag for tag, _ in Page(write_report(run)).tags if tag == "script"]


def test_metrics_of_a_killed_and_resumed_run_count_once(run: Path) -> None:
    lines = [{"step": s, "seconds": s, "train/loss": float(k)} for k, s in enumerate([10, 20, 30, 25, 35])]
    write_lines(run / "metrics.jsonl", lines)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 45, "seco')
    metrics = read_results(run).metrics
    assert [line["step"] for line in metrics] == [10, 20, 25, 35]
    assert [line["train/loss"] for line in metrics] == [0.0, 1.0, 3.0, 4.0]


def test_smoothing_keeps_a_constant_and_a_line() -> None:
    line = np.linspace(0.0, 5.0, 200)
    assert smooth(np.ones(200)) == pytest.approx(np.ones(200))
    assert smooth(line)[5:-5] == pytest.approx(line[5:-5])
    assert (smooth(line[:10]) == line[:10]).all()


def test_terminal_table_shows_all_rows(run: Path) -> None:
    table = terminal_table(read_results(run).rows)
    found = summarise(records(RATES["agent"]))["success"]
    for text in ("Agent", "Blind", "Random", "Expert", f"{found.mean:.3f}", f"[{found.low:.3f}, {found.high:.3f}]"):
        assert text in table


def other_run(run: Path, seed: int = 1) -> Path:
    other = run.parent / "b"
    (other / "eval" / "val").mkdir(parents=True)
    write_lines(other / "eval" / "val" / "agent.jsonl", records(0.5, seed))
    (other / "versions.json").write_text(json.dumps(VERSIONS | {"seed": 8, "git_dirty": True}))
    return other


def test_comparison_has_a_row_per_run_with_intervals_seed_and_commit(run: Path) -> None:
    markdown, page = write_comparison([run, other_run(run)])
    rows = [line for line in markdown.read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) == 2
    for row, rate, seed, commit in ((rows[0], 0.8, 0, "0123456789 "), (rows[1], 0.5, 1, "0123456789+ ")):
        found = summarise(records(rate, seed))["spl"]
        assert f"| {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] |" in row
        assert commit in row
    assert "| 7 |" in rows[0]
    assert "| 8 |" in rows[1]
    assert "on the same episodes" in markdown.read_text()
    assert str(VERSIONS["command"]) in markdown.read_text()
    assert Page(page).sources() == []


def test_comparison_tells_when_episodes_differ(run: Path) -> None:
    other = other_run(run)
    write_lines(other / "eval" / "val" / "agent.jsonl", records(0.5)[:20])
    markdown, _ = write_comparison([run, other])
    assert "different episodes" in markdown.read_text()


@pytest.mark.parametrize("key", ["command", "seed", "git_commit"])
def test_comparison_refuses_a_run_that_cannot_be_made_again(run: Path, key: str) -> None:
    other = other_run(run)
    (other / "versions.json").write_text(json.dumps({k: v for k, v in VERSIONS.items() if k != key}))
    with pytest.raises(ValueError, match=f"has no {key}"):
        write_comparison([run, other])
    assert not (run.parent / "comparison.md").exists()


def test_film_plays_all_clips_and_keeps_pixels(tmp_path: Path) -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    frames[:, :4] = (200, 30, 40)
    frames[2:, 4:] = (20, 180, 60)
    write_video(tmp_path / "v.gif", [(frames, "first"), (frames[:2], "second")], scale=4, fps=10)
    with Image.open(tmp_path / "v.gif") as film:
        pages = [(page.convert("RGB"), page.info["duration"]) for page in ImageSequence.Iterator(film)]
    assert sum(duration for _, duration in pages) == 4 * 100 + 1000 * HOLD_SECONDS  # equal frames are merged
    last = np.asarray(pages[-1][0])
    caption = last.shape[0] - 32
    assert caption > 0
    assert (last[caption : caption + 16, :32] == (200, 30, 40)).all()
    assert (last[caption + 16 :, :32] == (20, 180, 60)).all()
    assert (last[caption + 16 :, -32:] == 0).all()  # the second clip is over and shows its last frame


def test_lines_of_the_map_keep_their_colours_in_a_film_of_many(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 128, 3)).astype(np.uint8)
    for row, colour in enumerate((AGENT, EXPERT, GOAL)):
        frames[:, row, 70:100] = ImageColor.getrgb(colour)
    write_video(tmp_path / "film.gif", [(frames, "")], scale=1)
    with Image.open(tmp_path / "film.gif") as film:
        film.seek(10)
        shown = np.asarray(film.convert("RGB"))[-64:]
    for row, colour in enumerate((AGENT, EXPERT, GOAL)):
        assert (shown[row, 70:100] == ImageColor.getrgb(colour)).all()


def test_long_films_are_thinned_and_every_clip_keeps_its_last_frame(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 3 * MAX_PAGES).astype(np.uint8)
    write_video(tmp_path / "v.gif", [(np.broadcast_to(grey[:, None, None, None], (len(grey), 8, 8, 3)), "long")], 1)
    with Image.open(tmp_path / "v.gif") as film:
        pages = [(page.convert("RGB"), page.info["duration"]) for page in ImageSequence.Iterator(film)]
    assert sum(duration for _, duration in pages) == MAX_PAGES * 100 + 1000 * HOLD_SECONDS
    assert np.asarray(pages[-1][0])[-1, -1].min() > 245


def test_bad_films_are_refused_and_leave_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "v.gif"
    file.write_bytes(b"old")
    for clips in ([], [(clip(0), "empty")], [(clip(2), "a"), (clip(2)[:, :4], "b")]):
        with pytest.raises(ValueError, match="clip"):
            write_video(file, clips)
    with pytest.raises(ValueError, match="ending"):
        write_video(tmp_path / "v.avi", [(clip(2), "a")])
    assert file.read_bytes() == b"old"


def test_command_line_writes_reports_and_fails_in_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", f"run={run}"])
    main()
    assert str(run / "report.html") in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["report", f"run=[{run},{other_run(run)}]"])
    main()
    assert (run.parent / "comparison.md").read_text() in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["report", f"run={run}", "split=test"])
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err
    assert (stop.value.code, error.count("\n")) == (2, 1)
    assert "no evaluation on 'test'" in error
