"""Residual adapters: low-rank ones made from trained ones, and bases that are trained with adapters in place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from miniatures import two_domains
from supervised_runs import run

from adapt import load, load_base
from adapt.core.base import save_base
from adapt.methods.residual_adapter import ResidualAdapter
from adapt.supervised.compression import compress
from adapt.supervised.saved import exported, saved_methods
from adapt.training.run import Run, list_checkpoints
from configs.compose import compose
from configs.overrides import quote_override

WORDS = ["benchmark=domainnet", "benchmark.size=32", "protocol=single", "training.length=3 steps", "training.batch=8"]
WORDS += ["adapt=residual_adapter"]


def trained(tmp_path: Path, *words: str) -> Path:
    tmp_path.mkdir(exist_ok=True)
    run(tmp_path / "run", *WORDS, f"data={two_domains(tmp_path / 'domains.npz')}", *words)
    return tmp_path / "run"


def compressed(source: Path, out: Path, *words: str) -> dict[str, object]:
    words = ("training.length=2 steps", f"run={source}", f"out={out}", *words)
    return compress(compose("compress", list(words)))


def adapters(folder: Path, base: Path) -> dict[str, ResidualAdapter]:
    return saved_methods(folder, load_base(base))  # type: ignore[return-value]


@pytest.mark.parametrize("shared", [False, True])
def test_trained_adapters_become_factors_and_are_trained_on(tmp_path: Path, shared: bool) -> None:
    source, out = trained(tmp_path), tmp_path / "out"
    result = compressed(source, out, "rank=0.5", f"shared={str(shared).lower()}")
    base = tmp_path / "narrow.safetensors"
    before, after = adapters(source, base), adapters(out, base)
    red, green = after["red"].adapters(), after["green"].adapters()
    for place, adapter in enumerate(red):
        full = before["red"].adapters()[place].matrix()
        assert torch.linalg.matrix_rank(adapter.matrix().detach()) <= max(1, round(0.5 * min(full.shape)))
        assert (green[place].owner is adapter) == shared
        assert torch.equal(adapter.b, green[place].b) if shared else not torch.equal(adapter.b, green[place].b)
        assert isinstance(adapter.b, torch.nn.Parameter) != shared, "a shared factor stays as the SVD gave it"
    assert result["before"]["red"]["accuracy"] == pytest.approx(run_accuracy(source))
    assert result["untuned"]["red"]["loss"] != result["per_task"]["red"]["loss"]
    assert result["images"] == 2 * 2 * 8
    assert 1 < result["model_size"] < 1.3


def run_accuracy(folder: Path) -> float:
    return float(json.loads((folder / "result.json").read_text())["per_task"]["red"]["accuracy"])


def test_full_rank_changes_nothing_before_training_on(tmp_path: Path) -> None:
    source = trained(tmp_path)
    result = compressed(source, tmp_path / "out", "rank=1.0")
    for task in ("red", "green"):
        assert result["untuned"][task]["loss"] == pytest.approx(result["before"][task]["loss"], rel=1e-4)


def test_settings_of_no_declared_type_are_read_as_typed_in_a_command() -> None:
    """A command quotes numbers, and "batch must be a whole number, got '4'" was all that came of it."""
    words = [
        "run=a",
        "out=b",
        "training.batch=4",
        "training.length=2 steps",
        "optimiser.lr=1e-3",
        "training.bfloat16=true",
    ]
    cfg = compose("compress", [*map(quote_override, words), quote_override("optimiser.milestones=[0.5,0.75]")])
    assert cfg.training.batch == 4 and cfg.training.length == "2 steps" and cfg.training.bfloat16 is True
    assert cfg.optimiser.lr == 1e-3 and list(cfg.optimiser.milestones) == [0.5, 0.75]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: [file.unlink() for file in list_checkpoints(run)], "checkpoints holds none"),
        (lambda run: list_checkpoints(run)[-1].unlink(), r"step_\d+\.pt: .* tasks\.red is missing"),
        (lambda run: (run / "versions.json").write_text("{}"), r"versions\.json: it lacks command"),
        (lambda run: changed(run, per_task={}), r"result\.json has no scores of green, red"),
        (lambda run: changed(run, per_task=[1]), r"result\.json: per_task must be a group"),
        (lambda run: changed(run, matrix=None), r"result\.json: matrix must be a group"),
    ],
)
def test_damaged_runs_are_named_before_anything_is_trained(tmp_path: Path, done: Path, change, said: str) -> None:
    """Formerly IndexErrors and KeyErrors, the latter after all of the training."""
    source = Path(shutil.copytree(done, tmp_path / "run"))
    change(source)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        compressed(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def changed(folder: Path, **values: object) -> None:
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, **values}))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("done"))


def test_a_killed_compression_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = trained(tmp_path)
    whole = compressed(source, tmp_path / "whole", "shared=true")
    save = Run.save

    def dies(self: Run, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        compressed(source, tmp_path / "out", "shared=true")
    monkeypatch.setattr(Run, "save", save)
    resumed = compressed(source, tmp_path / "out", "shared=true", "resume=true")
    assert resumed["per_task"] == whole["per_task"] and resumed["images"] == whole["images"]


def test_what_cannot_be_compressed_is_refused(tmp_path: Path) -> None:
    source = trained(tmp_path)
    compressed(source, tmp_path / "out")
    with pytest.raises(ValueError, match="compressed already"):
        compressed(tmp_path / "out", tmp_path / "again")
    with pytest.raises(ValueError, match="shared factors come of trained adapters"):
        trained(tmp_path / "random", "adapt.rank=0.5", "adapt.shared=true")
    with pytest.raises(ValueError, match="rank must be positive"):
        compressed(source, tmp_path / "wrong", "rank=1.5")


@pytest.mark.parametrize("kind", ["series", "parallel"])
def test_a_base_can_be_trained_with_adapters_in_place_and_exported_without(tmp_path: Path, kind: str) -> None:
    folder = trained(tmp_path, f"adapt.kind={kind}", "adapt.joint=true", "tasks=[red]")
    plain = load_base(tmp_path / "narrow.safetensors")
    methods = saved_methods(folder, plain)
    made = exported(methods, shared=True)
    before, after = plain.encoder.state_dict(), made.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    convolutions = {name for name in before if ".conv" in name or name.startswith("conv")}
    assert convolutions <= moved, "the filters are trained along with the adapters"
    assert "bn1.running_mean" in moved
    method = methods["red"]
    assert isinstance(method, ResidualAdapter)
    wanted = {**method.shared_tensors(), **method.norm_tensors()}
    assert all(torch.equal(after[name], tensor) for name, tensor in wanted.items())
    with pytest.raises(ValueError, match="there is no task"):
        exported(methods, "blue")
    with pytest.raises(ValueError, match="share the base as it is"):
        exported(
            saved_methods(trained(tmp_path / "frozen"), load_base(tmp_path / "frozen" / "narrow.safetensors")),
            shared=True,
        )


def test_an_exported_network_is_a_base_for_others(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    methods = saved_methods(folder, load_base(tmp_path / "narrow.safetensors"))
    sha = save_base(exported(methods, "green"), tmp_path / "green.safetensors", torch.float32)
    base = load_base(tmp_path / "green.safetensors")
    assert base.sha256 == sha
    result = run(
        tmp_path / "next", *WORDS, f"data={tmp_path / 'domains.npz'}", base=str(tmp_path / "green.safetensors")
    )
    assert load(base, tmp_path / "next" / "adapter" / "red").tasks == ["red"]
    assert result["pretraining"] == "random residual_adapter"
