from __future__ import annotations

import sys
from pathlib import Path

import pytest
from extras import require

from adapt import list_bases, load_base
from adapt.benchmarks.benchmark import benchmarks
from adapt.core.base import bases
from adapt.core.method import methods
from adapt.encoders import encoders
from agents.learners.learner import learners
from agents.policies.policy import policies
from configs.registry import Registry, modules_of
from envs.pointnav.simulator import SimulatorVecEnv, simulators
from envs.sources.source import SceneSource, scene_sources

ROOT = Path(__file__).resolve().parents[1]
ALL = [methods, benchmarks, encoders, bases, scene_sources, simulators, policies, learners]


@pytest.mark.parametrize("registry", ALL, ids=lambda r: r.kind)
def test_every_name_is_found_and_known_by_its_name(registry: Registry) -> None:
    names = registry.names()
    assert names
    assert names == sorted(set(names))
    for name in names:
        if name == "warp":
            require("warp")
        part = registry.get(name)
        assert registry.name_of(part) == name
        assert name in registry
    near = names[0] + "x"
    assert near not in registry
    with pytest.raises(ValueError, match=rf"unknown {registry.kind} '{near}'; did you mean '{names[0]}'"):
        registry.get(near)


def test_sources_and_simulators_are_of_their_class() -> None:
    assert all(issubclass(scene_sources.get(name), SceneSource) for name in scene_sources.names())
    require("warp")
    assert all(issubclass(simulators.get(name), SimulatorVecEnv) for name in simulators.names())
    assert all(simulators.get(name).with_arrays().on_device is False for name in simulators.names())


def test_register_refuses_a_taken_or_odd_name() -> None:
    registry: Registry[type] = Registry("thing", "sidestep.tests")

    @registry.register("one")
    class One: ...

    class Other: ...

    assert registry.get("one") is One
    with pytest.raises(ValueError, match=r"thing 'one' is .*One already; give .*Other another name"):
        registry.register("one")(Other)
    for odd in ("", "Two", "a-b", "a/b", "1a"):
        with pytest.raises(ValueError, match="names are lower-case letters"):
            registry.register(odd)
    with pytest.raises(LookupError, match="Other is no registered thing"):
        registry.name_of(Other)


def test_a_class_defined_again_takes_its_own_place() -> None:
    registry: Registry[type] = Registry("thing", "sidestep.tests")

    def define() -> type:
        @registry.register("one")
        class One: ...

        return One

    first, second = define(), define()
    assert registry.get("one") is second is not first
    assert registry.name_of(first) == "one"


def test_modules_of_leaves_out_helpers_private_modules_and_packages(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "some_parts"
    (package / "sub").mkdir(parents=True)
    for file in ("__init__", "one", "two", "helper", "_private", "sub/__init__"):
        (package / f"{file}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert modules_of("some_parts", but=("helper",)) == {"one": "some_parts.one", "two": "some_parts.two"}
    registry: Registry[type] = Registry("thing", "sidestep.tests", modules_of("some_parts"))
    with pytest.raises(ValueError, match=r"some_parts\.one registers no thing 'one'"):
        registry.get("one")


def distribution(folder: Path, name: str, group: str, points: str, module: str) -> None:
    """What `pip install` leaves behind of a distribution with entry points."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{points}\n")
    (folder / f"{name}.py").write_text(module)


def test_entry_points_of_other_distributions(tmp_path: Path, monkeypatch) -> None:
    module = "class Mine: ...\nclass Wrong:\n  ...\n"
    distribution(
        tmp_path, "lends", "sidestep.tests", "mine = lends:Mine\nabsent = lends:Nothing\nbroken = gone:X", module
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[type] = Registry("thing", "sidestep.tests")
    assert registry.names() == ["absent", "broken", "mine"]
    assert "lends" not in sys.modules
    assert registry.get("mine").__module__ == "lends"
    assert registry.name_of(registry.get("mine")) == "mine"
    for name, reason in (("absent", "has no attribute 'Nothing'"), ("broken", "No module named 'gone'")):
        with pytest.raises(ImportError, match=f"thing '{name}' of lends 1.2 cannot be imported: .*{reason}"):
            registry.get(name)


def test_a_name_that_two_distributions_have_is_refused(tmp_path: Path, monkeypatch) -> None:
    for name in ("first", "second"):
        distribution(tmp_path, f"{name}_dist", "sidestep.tests", f"mine = {name}_dist:Mine", "class Mine: ...\n")
    distribution(tmp_path, "third_dist", "sidestep.methods", "lora = third_dist:Mine", "class Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[type] = Registry("thing", "sidestep.tests")
    with pytest.raises(ValueError, match=r"thing 'mine' is offered by .*first_dist 1.2.* and .*second_dist 1.2"):
        registry.get("mine")
    with pytest.raises(ValueError, match=r"method 'lora' is offered by third_dist:Mine .* and adapt.methods.lora"):
        methods.get("lora")


def test_bases_are_found_by_source_and_rest() -> None:
    assert {"curvature", "random", "timm", "taskonomy"} <= set(list_bases())
    assert load_base("random/fcn4").spec.encoder == "fcn4"
    with pytest.raises(ValueError, match=r"unknown base 'curvatur'; did you mean 'curvature'"):
        load_base("curvatur")
    with pytest.raises(ValueError, match=r"unknown base 'runs/net.pth'.* or a path"):
        load_base("runs/net.pth")
    with pytest.raises(ValueError, match="base 'curvature' is one network; leave out '/8'"):
        load_base("curvature/8")
    with pytest.raises(ValueError, match="base resnet44 needs its released weights"):
        load_base("resnet44:")
