"""The page over many runs: what it says, and that it works in a browser, by mouse and keyboard, wide and narrow."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import BROWSER, Page, browser
from miniatures import cifar100
from run_folders import records, write_lines, write_run
from supervised_runs import run as supervised_run

from agents.report import main
from agents.reports.evaluation import write_report
from agents.reports.runs import write_runs

RATES = {"best": 0.9, "middle": 0.5, "worst": 0.1}
COLUMN = "[...document.querySelectorAll('.runs')[0].tBodies[0].rows].map(r => r.dataset.run)"
WIDTHS = (400, 1400)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three agents, one that was not evaluated, one benchmark, a run with a damaged file."""
    root = tmp_path_factory.mktemp("runs")
    config = "algo: {name: dagger}\nadapt: {name: side_tuning}\nbase: {name: curvature}\nenv: {name: apartments}\n"
    for seed, (name, rate) in enumerate(RATES.items()):
        path = write_run(root / name)
        (path / "config.yaml").write_text(config.replace("side_tuning", "lora") if name == "worst" else config)
        write_lines(path / "eval/val/agent.jsonl", records(rate, seed))
        write_report(path)
    for name in ("best/blind", "damaged"):
        path = write_run(root / name)
        (path / "config.yaml").write_text(f"{config}blind: true\n")
        shutil.rmtree(path / "eval")
    (root / "damaged/metrics.jsonl").write_text("{\n{}\n")
    words = [
        f"data={cifar100(tmp_path_factory.mktemp('data'))}",
        "benchmark=icifar",
        "adapt=features",
        "tasks=[classes_0_9,classes_10_19]",
    ]
    supervised_run(root / "icifar/features", *words, "training.length=4 steps", "training.batch=8", "log_every=1")
    return root


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, open in a browser."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    write_runs(runs)
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(runs / "index.html")
        yield opened


def test_every_run_is_a_row_and_a_damaged_one_is_named(runs: Path) -> None:
    text = write_runs(runs).read_text()
    for name in (*RATES, "best/blind", "icifar/features"):
        assert f'data-run="{name}"' in text
    assert "damaged: " in text and "metrics.jsonl line 1" in text
    assert "http://www.w3.org/2000/svg" in text
    assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


def test_numbers_are_those_of_the_report_and_the_result(runs: Path) -> None:
    text = write_runs(runs).read_text()
    success = sum(record["success"] for record in records(RATES["best"], 0)) / 40
    assert f"{success:.3f}<small>" in text
    accuracy = json.loads((runs / "icifar/features/result.json").read_text())["accuracy"]
    assert f"{100 * accuracy:.2f} % accuracy" in text


def test_the_command_makes_it_of_a_folder_and_of_a_run_its_report(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, file in ((str(runs), "index.html"), (str(runs / "best"), "best/report.html")):
        (runs / file).unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["report", word])
        main()
        assert str(runs / file) in capsys.readouterr().out
        assert (runs / file).is_file()


def test_a_folder_without_runs_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path} holds no run") and said.count("\n") == 1


class TestInTheBrowser:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_nothing_sticks_out_and_the_curves_fill_the_width(self, page: Page, width: int) -> None:
        page.resize(width)
        page.value("new Promise(done => setTimeout(done, 100))")
        assert page.overflow() == []
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        drawn = page.value("document.querySelector('#plot svg').viewBox.baseVal.width")
        assert drawn == pytest.approx(page.value("document.getElementById('plot').clientWidth"), abs=1)

    def test_headings_sort_by_keyboard(self, page: Page) -> None:
        heading = "[...document.querySelectorAll('.runs th')].find(h => h.textContent.trim() === 'Success')"
        page.value(f"{heading}.querySelector('button').focus()")
        page.press("Enter")
        assert page.value(COLUMN) == ["worst", "middle", "best", "best/blind"]
        page.press(" ")
        assert page.value(COLUMN) == ["best", "middle", "worst", "best/blind"]
        assert page.value(f"{heading}.getAttribute('aria-sort')") == "descending"
        page.press("Tab")
        assert page.value("document.activeElement.textContent") == "SPL"

    def test_words_filter_rows_curves_and_films(self, page: Page) -> None:
        page.value("document.activeElement.blur()")
        page.press("/", *"lora")
        assert page.value("document.activeElement.id") == "filter"
        shown = "[...document.querySelectorAll('tr[data-run]')].filter(r => r.offsetParent).map(r => r.dataset.run)"
        assert page.value(shown) == ["worst"]
        assert page.value("document.getElementById('shown').textContent") == "1 of 5 runs"
        assert page.value("document.querySelectorAll('#plot polyline').length") == 1
        assert page.value("[...document.querySelectorAll('figure')].filter(f => !f.hidden).length") == 1
        page.value("filter.value = ''; filter.dispatchEvent(new Event('input'))")
        assert page.value("document.querySelectorAll('#plot polyline').length") == 4

    def test_ticks_and_measures_choose_the_curves(self, page: Page) -> None:
        page.value("measure.value = 'train/loss'; measure.dispatchEvent(new Event('change'))")
        assert page.value("document.querySelectorAll('#plot polyline').length") == 4
        page.value("document.querySelector('tr[data-run=middle] input').focus()")
        page.press(" ")
        titles = page.value("[...document.querySelectorAll('#plot title')].map(t => t.textContent.split(':')[0])")
        assert sorted(titles) == ["best", "best/blind", "worst"]

    def test_reports_and_films_are_one_click_away(self, page: Page, runs: Path) -> None:
        links = page.value("[...document.querySelectorAll('.runs a')].map(a => a.getAttribute('href'))")
        assert sorted(links) == [
            "best/report.html",
            "icifar/features/report.html",
            "middle/report.html",
            "worst/report.html",
        ]
        page.value("document.getElementById('films').open = true")
        page.value("Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode(); }))")
        assert page.value("[...document.images].every(i => i.naturalWidth > 0)")

    def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(self, page: Page) -> None:
        assert {address.partition(":")[0] for address in page.requests} <= {"file", "data"}
        assert page.errors == []

    @pytest.mark.parametrize("width", WIDTHS)
    def test_a_report_of_one_run_fits_as_well(self, page: Page, runs: Path, width: int) -> None:
        page.open(runs / "best/report.html", width)
        assert page.overflow() == []
        assert page.errors == []
