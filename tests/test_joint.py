"""Encoders that train together on views rendered meanwhile."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.core.base import load_base
from adapt.pretraining import joint
from adapt.pretraining.decoders import load_decoders
from adapt.pretraining.export import write_encoders
from adapt.pretraining.family import SHARED, Family
from adapt.pretraining.joint import JointConfig, JointRun, check_resume
from adapt.pretraining.rendered import RenderedBlocks, Ring
from adapt.pretraining.scores import wanted_domains
from adapt.pretraining.targets import TaskTraining, class_weights, mirrored, targets_of, training_loss
from adapt.pretraining.tasks import find_task

TASKS = ["normal", "segment_semantic", "denoising", "class_object"]
PLANS = {
    "segment_semantic": TaskTraining(scaling="taskonomy", balance=0.5),
    "denoising": TaskTraining(label_size=16, every=2),
    "class_object": TaskTraining(balance=0.5),
}


def labels(views: int = 6, size: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def bytes_of(channels: int) -> torch.Tensor:
        return torch.randint(0, 256, (views, channels, size, size), generator=generator).to(torch.uint8)

    objects = torch.rand((views, 1000), generator=generator)
    return {
        "rgb": bytes_of(3),
        "normal": bytes_of(3),
        "mask_valid": torch.full((views, 1, size, size), 255, dtype=torch.uint8),
        "segment_semantic": torch.randint(0, 18, (views, 1, size, size), generator=generator).to(torch.uint8),
        "class_object": objects / objects.sum(1, keepdim=True),
    }


def family(tied: bool) -> Family:
    torch.manual_seed(0)
    tasks = {name: find_task(name) for name in ("normal", "autoencoding", "depth_zbuffer")}
    statistics = {n: (torch.zeros(1, t.channels, 1, 1), torch.ones(1, t.channels, 1, 1)) for n, t in tasks.items()}
    plans = {name: TaskTraining() for name in tasks}
    return Family(tasks, plans, statistics, "fcn5", "light", 64, tied)


def test_tied_encoders_give_what_each_gives_alone_and_share_their_early_layers() -> None:
    tied = family(True)
    images = torch.randn(2, 3, 64, 64)
    names = list(tied.encoders)
    together = tied(images, names)
    for name in names:
        alone = tied.decoders[name](tied.encoders[name](images))
        torch.testing.assert_close(together[name], alone, rtol=1e-4, atol=1e-4)
    parameters = sum(p.numel() for p in tied.encoders.parameters())
    own = sum(p.numel() for p in family(False).encoders.parameters())
    early = sum(p.numel() for layer in SHARED for p in getattr(tied.encoders["normal"], layer).parameters())
    assert parameters == own - 2 * early


def test_untying_changes_no_output_and_parts_the_layers() -> None:
    tied = family(True)
    images = torch.randn(2, 3, 64, 64)
    before = tied(images, list(tied.encoders))
    origin = tied.untie()
    assert len(origin) == 2 * 3 * len(SHARED)
    for name, output in tied(images, list(tied.encoders)).items():
        torch.testing.assert_close(output, before[name], rtol=1e-4, atol=1e-4)
    first, *others = tied.encoders.values()
    assert all(first.conv2[0].weight is not other.conv2[0].weight for other in others)


def test_only_fcn5_can_be_tied() -> None:
    tasks = {"normal": find_task("normal")}
    statistics = {"normal": (torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))}
    with pytest.raises(ValueError, match="only fcn5 can share"):
        Family(tasks, {"normal": TaskTraining()}, statistics, "fcn8", "light", 64, True)


def test_targets_and_losses_equal_those_of_the_tasks() -> None:
    batch = labels()
    for name, plan in {"normal": TaskTraining(8), "segment_semantic": TaskTraining(8)}.items():
        task = find_task(name)
        output = torch.randn(6, task.classes(plan.scaling), 8, 8)
        loss = training_loss(task, output, *targets_of(task, batch, plan, None))
        torch.testing.assert_close(loss, task.loss(output, batch, plan.scaling))
    scores = torch.randn(6, 1000)
    task = find_task("class_object")
    loss = training_loss(task, scores, *targets_of(task, batch, TaskTraining(), None))
    torch.testing.assert_close(loss, task.loss(scores, batch, "side_tuning"))


def test_balanced_classes_weigh_the_same_together() -> None:
    batch, task, plan = labels(), find_task("segment_semantic"), TaskTraining(balance=1.0)
    batch["segment_semantic"][:] = 1
    batch["segment_semantic"][:, :, :, :8] = 5
    weights = class_weights(task, batch, plan)
    target, weight = targets_of(task, batch, plan, weights)
    assert float(weight.mean()) == pytest.approx(1.0)
    assert float(weight[target == 5].sum()) == pytest.approx(float(weight[target == 1].sum()))


def test_mirrored_targets_are_those_of_the_mirrored_view() -> None:
    batch, plan, task = labels(), TaskTraining(8), find_task("normal")
    turned = {name: label.flip(-1) if label.ndim == 4 else label for name, label in batch.items()}
    turned["normal"] = turned["normal"].clone()
    turned["normal"][:, 0] = 255 - turned["normal"][:, 0]
    target, _ = targets_of(task, batch, plan, None)
    torch.testing.assert_close(mirrored("normal", target), targets_of(task, turned, plan, None)[0])


def test_the_ring_drops_the_oldest_block() -> None:
    names = ["normal", "class_object"]
    ring = Ring({name: find_task(name) for name in names}, {name: TaskTraining() for name in names}, {}, 2)
    for value in (1, 2, 3):
        batch = labels()
        batch["rgb"][:] = value
        ring.add(batch)
    rgb, targets = ring.draw(np.random.default_rng(0), 64, names)
    assert set(rgb.unique().tolist()) == {2, 3}
    assert targets["normal"][0].shape == (64, 3, 8, 8) and targets["class_object"][1].shape == (64,)


def test_the_rate_rises_stays_and_falls() -> None:
    settings = JointConfig(steps=1000, warm_up=100, decay=400)
    rates = [settings.rate(step) for step in range(1000)]
    assert rates[99] == 1.0 and rates[599] == 1.0 and rates[999] < 0.011
    assert all(isinstance(rate, float) for rate in rates)
    assert rates[:100] == sorted(rates[:100]) and rates[600:] == sorted(rates[600:], reverse=True)


def test_what_a_checkpoint_cannot_go_on_with_is_named() -> None:
    before = {"steps": 100, "decay": 20, "tied": 50, "save_every": 5, "lr": 0.1}
    check_resume(before, before | {"steps": 200, "tied": 150}, ["a"], ["a"])
    with pytest.raises(ValueError, match="other lr; choose another out="):
        check_resume(before, before | {"lr": 0.2}, ["a"], ["a"])
    with pytest.raises(ValueError, match="other task"):
        check_resume(before, before, ["a", "b"], ["a"])


def test_settings_that_make_no_sense_are_refused() -> None:
    for words in ({"steps": 10}, {"batch": 1}, {"reuse": 0}, {"ring": 2}):
        with pytest.raises(ValueError):
            JointConfig(**words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean 'side_tuning'"):
        TaskTraining(scaling="side_tunning")


def small(steps: int) -> JointConfig:
    return JointConfig(
        size=64,
        views_per_scene=8,
        steps=steps,
        tied=2,
        warm_up=1,
        decay=1,
        batch=8,
        reuse=2,
        ring=8,
        save_every=2,
        average_from=2,
        plans=PLANS,
    )


def refuses_damaged_checkpoints(run: JointRun, folder: Path) -> None:
    file = folder / "checkpoint.pt"
    kept = torch.load(file, weights_only=True)
    name = next(iter(kept["mean"]))
    for change, said in (
        (
            {"family": {**kept["family"], name: kept["family"][name] * torch.nan}},
            rf"checkpoint\.pt, which may be deleted to start anew: its content\.family\.{name}",
        ),
        (
            {"mean": {**kept["mean"], name: torch.zeros(3)}},
            rf"checkpoint\.pt: the checkpoint is damaged .* mean\.{name}",
        ),
        ({"mean": {}}, rf"mean\.{name} is missing"),
    ):
        torch.save({**kept, **change}, file)
        with pytest.raises(ValueError, match=said):
            run.resume(folder)
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: it is a Git LFS pointer.* delete it to start anew"):
        run.resume(folder)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights_and_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(joint, "STATISTICS_BLOCKS", 2)
    domains = wanted_domains(TASKS)
    whole = JointRun(TASKS, small(5), domains)
    saved: list[dict[str, torch.Tensor]] = []
    whole.train(tmp_path / "whole", lambda run: saved.append(copy.deepcopy(run.family.state_dict())))
    assert len(saved) == whole.averaged == 3
    for name, value in whole.result().state_dict().items():
        torch.testing.assert_close(value, torch.stack([state[name] for state in saved]).mean(0))
    part = JointRun(TASKS, small(5), domains)
    assert not part.resume(tmp_path / "part")

    class Stopped(Exception):
        pass

    def stop(run: JointRun) -> None:
        if run.step == 4:  # After the early layers were untied.
            raise Stopped

    with pytest.raises(Stopped):
        part.train(tmp_path / "part", stop)
    part = JointRun(TASKS, small(5), domains)
    assert part.resume(tmp_path / "part") and part.step == 4
    part.train(tmp_path / "part", lambda run: None)
    for name, value in whole.family.state_dict().items():
        assert torch.equal(part.family.state_dict()[name], value), name
    for name, value in whole.result().state_dict().items():
        assert torch.equal(part.result().state_dict()[name], value), name
    refuses_damaged_checkpoints(part, tmp_path / "part")
    write_encoders(part, tmp_path / "out", None, [])
    for name in TASKS:
        base, decoders = (
            load_base(tmp_path / "out" / f"{name}.safetensors"),
            load_decoders(tmp_path / "out" / f"{name}.safetensors"),
        )
        assert decoders.base == base.sha256 and base.spec.training["steps"] == 5
        assert decoders[name](base(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))).isfinite().all()


def test_a_renderer_that_stops_says_so() -> None:
    with RenderedBlocks(0, ["size=8"]) as source, pytest.raises(RuntimeError, match="stopped with exit code 2"):
        source.next()
