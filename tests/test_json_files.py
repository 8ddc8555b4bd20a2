"""JSON files that commands left and users edited: damaged ones are one line with the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from adapt.pretraining.transfer import known_gains
from adapt.supervised.finished import read_run
from configs.files import read_json
from envs.render import RenderSettings, _describe

DAMAGED = {"empty": "", "cut": '{"a": [1,', "list": "[]", "number": "3", "other": '{"a": 1}', "deep": "[" * 100_000}


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "result of adapt.train": ("result.json", read_run),
    "transfer matrix": ("a.json", lambda folder: known_gains(folder / "a.json", {}, {})),
    "rendered dataset": ("dataset.json", lambda folder: _describe(folder, RenderSettings())),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named(reader: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, read = READERS[reader]
    (tmp_path / name).write_text(DAMAGED[kind])
    monkeypatch.setattr("adapt.supervised.finished.load_config", lambda path, like: OmegaConf.create({}))
    with pytest.raises(ValueError, match=rf"cannot read \S+{name}: ") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_object_with_its_keys_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1, "b": null}')
    assert read_json(tmp_path / "a.json", ("a", "b")) == {"a": 1, "b": None}
    with pytest.raises(ValueError, match=r"it lacks c, d$"):
        read_json(tmp_path / "a.json", ("a", "c", "d"))
    with pytest.raises(FileNotFoundError, match=r"b\.json"):
        read_json(tmp_path / "b.json")
