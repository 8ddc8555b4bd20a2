"""Damaged run folders: every command that reads one says which file is wrong, where, and what to do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import run_here
from omegaconf import DictConfig
from run_folders import write_run

from adapt.supervised.finished import read_run
from adapt.training.run import Run, list_checkpoints, load_config
from agents.evaluation.folder import prepare, replaced
from agents.learners.start import init_from_run
from agents.policies.policy import Policy
from agents.reports.files import read_top_down
from agents.reports.results import read_results
from agents.setup import VisualEncoder, check_spaces, make_policy, make_visual_encoder
from configs.compose import ConfigError, compose

OLD = Path(__file__).parent / "old_runs"
HUGE = 10**400


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("whole") / "a")


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a"))


def refused(run: Path, said: str) -> str:
    with pytest.raises(ValueError, match=said) as caught:
        for file in read_results(run).top_downs:  # as reports read them, but nothing is drawn
            read_top_down(file)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


# -- the files of reports --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"scene_id": [1]}, "scene_id must be text"),
        ({"episode_id": None}, "episode_id must be text"),
        ({"success": HUGE}, "success must be a finite number"),
        ({"spl": 1e308}, "spl must be between 0 and 1"),
        ({"success": True}, "success must be a number"),
        ({"distance_to_goal": -1.0}, "distance_to_goal must be between 0"),
        ({"episode_id": "0", "scene_id": "flat_0"}, "episode 0 of flat_0 comes twice"),
    ],
)
def test_records_that_mean_nothing_are_named(run, values, said):
    """Lists and numbers beyond all floats were tracebacks; 1e308, true and repeated records were averaged."""
    file = run / "eval" / "val" / "agent.jsonl"
    lines = file.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **values})
    file.write_text("\n".join(lines))
    assert f"{file} line 2: " in refused(run, said)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("eval/val/agent.jsonl", "[" * 100_000, r"line 1 is not JSON \(maximum recursion"),
        ("eval/val/blind.jsonl", "version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("eval/val/expert.jsonl", "<html>", "web page"),
        ("metrics.jsonl", "<html>", "web page"),
        ("metrics.jsonl", f'{{"step": {HUGE}}}\n', "line 1 has no finite 'step'"),
        ("metrics.jsonl", '{"step": true}\n', "line 1 has no finite 'step'"),
        ("metrics.jsonl", '{"step": 1e300}\n', "line 1 has no finite 'step'"),
        ("metrics.jsonl", "x\n{}\n", "line 1 is not JSON .*; delete the line"),
        ("versions.json", '{"packages": [1]}', "packages must be a group"),
        ("versions.json", '{"seed": "y"}', "seed must be a whole number"),
        ("eval/val/versions.json", '{"command": 3}', "command must be text"),
        ("result.json", '{"seconds": NaN}', "seconds must be a finite number"),
        ("result.json", '{"seconds": "abc"}', "seconds must be a number"),
        ("result.json", f'{{"train_seconds": {HUGE}}}', "train_seconds must be a finite number"),
        ("config.yaml", "", "is no readable YAML .*empty"),
        ("config.yaml", "<html>", "web page"),
        ("config.yaml", "[1]", "holds no settings"),
        ("config.yaml", "abc", "holds no settings"),
        ("eval/val/topdown_0.npz", "abc", r"damaged \(it is incomplete, or no .npz file"),
        ("eval/val/topdown_0.npz", "<html>", "web page"),
        ("eval/val/video.gif", "GIF89a and no more", r"damaged \(it is no GIF file, or was cut off"),
        ("eval/val/video.mp4", "<html>", "web page"),
    ],
)
def test_files_that_are_something_else_are_named(run, name, content, said):
    """Numbers of other types were tracebacks of the template, and the advice was to load archives unsafely."""
    if name.endswith("mp4"):
        (run / "eval" / "val" / "video.gif").unlink()
    (run / name).write_text(content)
    assert str(run / name) in refused(run, said)


@pytest.mark.parametrize("name", ["eval/val/topdown_1.npz", "eval/val/video.gif"])
def test_pictures_that_were_cut_off_are_named(run, name):
    """A cut archive was a traceback; a cut film was put into the page."""
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: 2 * len(content) // 3])
    assert str(run / name) in refused(run, "damaged")


def test_a_film_whose_last_box_goes_up_to_the_end_is_whole(run):
    film = run / "eval" / "val" / "video.mp4"
    (film.parent / "video.gif").unlink()
    boxes = (16, b"ftyp" + bytes(8)), (8, b"moov"), (0, b"mdat" + bytes(100))
    film.write_bytes(b"".join(size.to_bytes(4, "big") + content for size, content in boxes))
    assert read_results(run).video == film


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "metrics.jsonl",
        "versions.json",
        "result.json",
        "eval/val/agent.jsonl",
        "eval/val/blind.jsonl",
        "eval/val/topdown_0.npz",
        "eval/val/video.gif",
    ],
)
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_folders_and_links_to_nothing_are_no_missing_files(run, name, kind):
    """They counted as absent: a report without a learning curve, a config or a film."""
    (run / name).unlink()
    if kind == "folder":
        (run / name).mkdir()
    else:
        (run / name).symlink_to("/nowhere/else")
    message = refused(run, "is a folder, where a file belongs" if kind == "folder" else "is a link to /nowhere/else")
    assert str(run / name) in message


def test_lines_of_other_editors_are_read(run):
    """A byte order mark and empty lines were refused."""
    file = run / "eval" / "val" / "agent.jsonl"
    before = read_results(run).rows["agent"]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert read_results(run).rows["agent"] == before


def test_a_page_over_runs_says_how_many_it_could_not_read(run):
    shutil.copytree(run, run.parent / "b")
    for name in ("a", "b"):
        (run.parent / name / "config.yaml").write_text("algo: {name: ppo}\n")
    (run.parent / "b" / "result.json").write_text('{"seconds": [1]}')
    done = run_here("agents.report", str(run.parent))
    assert done.returncode == 0 and done.stderr.startswith("warning: 1 of 2 runs could not be read; ")
    assert "seconds must be a number" in (run.parent / "index.html").read_text()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"per_task": {"classes_0_9": {"loss": "x"}}}, r"per_task\.classes_0_9\.loss must be a number"),
        ({"images": "many"}, "images must be a number"),
        ({"parameters": [1]}, "parameters must be a number"),
        ({"tasks": ["a", "a"]}, "tasks must be a list of one or more, all different"),
        ({"score": {}}, "score and matrix are not of its tasks"),
        ({"matrix": {"loss": [[1.0]]}}, "score and matrix are not of its tasks"),
    ],
)
def test_results_of_benchmarks_that_mean_nothing_are_named(tmp_path, values, said):
    run = Path(shutil.copytree(OLD / "supervised", tmp_path / "run"))
    result = json.loads((run / "result.json").read_text())
    assert read_run(run).result == result
    (run / "result.json").write_text(json.dumps({**result, **values}))
    with pytest.raises(ValueError, match=said) as caught:
        read_run(run)
    assert str(run / "result.json") in str(caught.value)


# -- whose run it is -------------------------------------------------------------------------------------------------


def test_a_run_of_another_command_is_called_so(tmp_path):
    """Formerly "Missing key blind"; start= took it until its checkpoint did not fit."""
    agent, benchmark = OLD / "dagger", OLD / "supervised"
    with pytest.raises(ValueError, match=r"holds a run of adapt\.train; give one of agents\.train"):
        load_config(benchmark, "train")
    with pytest.raises(ValueError, match=r"holds a run of agents\.train; give one of adapt\.train"):
        load_config(agent, "supervised")
    run = Run(tmp_path / "new", compose("train", [f"run={tmp_path / 'new'}", f"start={benchmark}"]), False)
    with pytest.raises(ValueError, match=r"holds a run of adapt\.train"):
        init_from_run(compose("train", ["run=x", f"start={benchmark}"]), run, None, "")  # type: ignore[arg-type]
    run.close()
    copy = Path(shutil.copytree(benchmark, tmp_path / "run"))
    with pytest.raises(ValueError, match=r"holds a run of adapt\.train"):
        Run(copy, compose("train", [f"run={copy}"]), True)


def test_a_config_that_was_cut_between_two_keys_is_incomplete(tmp_path):
    """What was gone was filled with defaults, as in runs of older versions."""
    run = tmp_path / "run"
    Run(run, compose("train", [f"run={run}", "seed=3"]), False).close()
    assert load_config(run).seed == 3
    file = run / "config.yaml"
    text = file.read_text()
    places = [n for n in range(len(text)) if text[n - 1] == "\n"]
    assert len(places) > 80
    for place in places[-3:]:
        file.write_text(text[:place])
        with pytest.raises(ValueError, match=r"config\.yaml is incomplete: .*restore it"):
            load_config(run)
    file.write_text(text.strip())
    assert load_config(run).seed == 3
    file.write_text("".join(text.splitlines(True)[1:-1]))  # written by another program
    assert load_config(run).seed == 3


# -- resuming --------------------------------------------------------------------------------------------------------


def test_a_finished_run_whose_checkpoints_are_gone_is_not_trained_again(tmp_path):
    """resume=true dropped its learning curve and began anew."""
    run = Path(shutil.copytree(OLD / "supervised", tmp_path / "run"))
    curve = (run / "metrics.jsonl").read_bytes()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match="holds a finished run, but none of its checkpoints"):
        Run(run, load_config(run), True)
    assert (run / "metrics.jsonl").read_bytes() == curve


def test_a_run_that_was_evaluated_before_its_first_checkpoint_goes_on(tmp_path):
    """Scores of the untrained policy do not make it a finished one."""
    run = Path(shutil.copytree(OLD / "dagger", tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    (run / "result.json").write_text('{"untrained.success": 0.0}')
    Run(run, load_config(run), True).close()


def test_copies_of_checkpoints_are_none_of_the_run(tmp_path):
    """step_best.pt was taken for the newest, and a second copy made each new checkpoint vanish as it was written."""
    run = Run(tmp_path / "run", compose("train", [f"run={tmp_path / 'run'}"]), False)
    run.save(9, "b", {})
    for name in ("step_best.pt", "step_final.pt", "step_0000000009 (1).pt"):
        shutil.copy(list_checkpoints(run.path)[-1], run.path / "checkpoints" / name)
    run.save(10, "b", {})
    run.close()
    assert [file.name for file in list_checkpoints(run.path)] == ["step_0000000009.pt", "step_0000000010.pt"]
    assert len(list((run.path / "checkpoints").iterdir())) == 5


@pytest.mark.parametrize("name", ["metrics.jsonl", "versions.json", "result.json", "sessions.jsonl", "config.yaml"])
def test_a_folder_where_a_file_of_the_run_belongs_is_named_before_training(tmp_path, name):
    run = Path(shutil.copytree(OLD / "dagger", tmp_path / "run"))
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    with pytest.raises(ValueError, match=rf"{name} is a folder, where a file belongs"):
        Run(run, compose("train", [f"run={run}"]), True)


@pytest.mark.parametrize("line", [f'{{"step": {HUGE}}}', "[" * 100_000])
def test_lines_that_no_number_holds_are_dropped_on_resuming(tmp_path, line):
    run = Path(shutil.copytree(OLD / "dagger", tmp_path / "run"))
    curve = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(f"{line}\n{curve}")
    again = Run(run, load_config(run), True)
    again.restore("")
    again.close()
    assert (run / "metrics.jsonl").read_text() == "".join(curve.splitlines(True)[:2])


# -- evaluating ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_said_before_any_episode_is_played(run):
    """Formerly after all of them."""
    (run / "report.html").mkdir()
    with pytest.raises(ValueError, match=r"report\.html is a folder"):
        prepare(run, "val")
    (run / "report.html").rmdir()
    (run / "eval" / "test").touch()
    with pytest.raises(ValueError, match="test is no folder"):
        prepare(run, "test")
    assert prepare(run, "wide").is_dir()


def test_an_evaluation_that_fails_leaves_the_earlier_one(run):
    """A disk that filled while it was written left some files of each, or none."""
    folder = run / "eval" / "val"
    (folder / "untrained.jsonl").touch()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(OSError, match="full"), replaced(folder) as place:
        (place / "agent.jsonl").write_text("x")
        raise OSError("full")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    with replaced(folder) as place:
        with pytest.raises(ValueError, match="another process is evaluating"), replaced(folder):
            pass
        (place / "agent.jsonl").write_text("x")
    assert sorted(file.name for file in folder.iterdir()) == ["agent.jsonl", "untrained.jsonl"]
    assert (folder / "agent.jsonl").read_text() == "x" and list(folder.parent.iterdir()) == [folder]
    with replaced(folder) as place:
        shutil.rmtree(folder)  # while episodes were played
        (place / "agent.jsonl").write_text("y")
    assert [file.read_text() for file in folder.iterdir()] == ["y"]


def test_a_folder_of_others_is_said_before_any_episode_is_played(run, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != run)  # root may write everywhere
    with pytest.raises(PermissionError, match="cannot be written; copy the run"):
        prepare(run, "val")


@pytest.fixture(scope="module")
def agent() -> tuple[DictConfig, VisualEncoder, Policy]:
    cfg = compose("train", ["run=x", "blind=true", "policy.hidden=[8]", "env.camera.size=32"])
    vision = make_visual_encoder(cfg)
    return cfg, vision, make_policy(cfg, vision)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("env.task.map_size=20", r"of map of shape \(\d+, 40, 40\), with these settings they are \(\d+, 20, 20\)"),
        ("env.task.sensors=[rgb]", r"of map of shape .* they are none; leave env\.task\.sensors"),
        ("env.task.variant=side_tuning", r"the actions Discrete\(4\), with these settings they are Discrete\(3\)"),
    ],
)
def test_settings_that_change_what_an_agent_reads_are_refused(agent, change, said):
    """Formerly tracebacks about sizes of matrices."""
    cfg, vision, policy = agent
    check_spaces(cfg, vision, policy, "the agent")
    changed = compose("train", ["run=x", "blind=true", "policy.hidden=[8]", "env.camera.size=32", change])
    with pytest.raises(ValueError, match=rf"the agent was trained on .*{said}"):
        check_spaces(changed, vision, policy, "the agent")


@pytest.mark.parametrize(
    ("command", "word", "said"),
    [
        ("compare_agents", "run=[]", "give a value for run"),
        ("evaluate", "env.split=null", "env.split must be text"),
        ("evaluate", f"temperature={HUGE}", "temperature must be a finite number"),
        ("evaluate", "blind=", "blind is empty; leave it out, or write null for none"),
        ("train", "start=", "start is empty"),
        ("train", "log_every=99999999999999999999", "log_every must be a whole number of 64 bits"),
        ("train", "base=[[1]]", r"cannot use base=\[\[1\]\]: a group takes the name of one choice"),
        ("train", "base=null", "cannot use base=null"),
        ("train", f"base={'x' * 3000}", "there is no such choice"),
    ],
)
def test_values_that_no_command_expects_are_one_line(command, word, said):
    """Formerly an IndexError, TypeErrors, OverflowErrors, 3,000 characters, and a training from fresh weights."""
    words = [word] if word.startswith("run") else ["run=a", word]
    with pytest.raises(ConfigError, match=said) as caught:
        compose(command, words)
    assert len(str(caught.value)) < 900
