"""Apartments of wide appearance and other shapes, and the stream of views rendered from them."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run_here
from safetensors.numpy import load

from agents.setup import without_randomisation
from configs.compose import compose
from envs.apartments.appearance import LIGHTS, SURFACES, camera_offset, without_some_ceilings
from envs.apartments.generator import generate
from envs.apartments.shape_changes import Changes
from envs.apartments.wide_textures import COUNTS, RECIPES, wide_bank
from envs.pointnav.env import PointNav, PointNavTask
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene
from envs.rendering.camera_offsets import CameraOffset
from envs.rendering.renderer import Camera, make_renderer
from envs.sources.apartments import apartments
from envs.stream import FIRST_SEED, KINDS, StreamConfig, blocks, expose, render_block, write_blocks

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1042)
SHAPE = ("vertices", "faces", "face_class", "face_instance", "solid")


@pytest.mark.parametrize("seed", SEEDS)
def test_wide_appearance_changes_looks_and_nothing_else(seed: int) -> None:
    plain, wide = generate(seed), generate(seed, "wide", bank=0)
    for name in SHAPE:
        assert getattr(plain, name).tobytes() == getattr(wide, name).tobytes(), name
    assert [r.polygon.tobytes() for r in plain.rooms] == [r.polygon.tobytes() for r in wide.rooms]
    looks = [
        (s.corner_color.tobytes(), s.face_texture.tobytes()) for s in (plain, wide, generate(seed, "wide", bank=0))
    ]
    assert looks[0] != looks[1] and looks[1] == looks[2]


def test_wide_appearance_has_apartments_without_textures_and_without_shading() -> None:
    scenes = [generate(seed, "wide", bank=0) for seed in range(16)]
    bare = [bool((scene.face_texture < 0).all()) for scene in scenes]
    # Without shading all corners of all faces of an object have one colour.
    flat = [bool((scene.corner_color == scene.corner_color[:, :1]).all()) for scene in scenes]
    assert any(bare) and not all(bare)
    assert any(flat) and not all(flat)
    assert sum(SURFACES.values()) == pytest.approx(1.0) and sum(LIGHTS.values()) == pytest.approx(1.0)


def test_wide_textures_are_the_same_in_every_process_and_read_only() -> None:
    bank = wide_bank(0)
    assert list(bank) == list(RECIPES) and all(len(bank[kind]) == COUNTS[kind] for kind in RECIPES)
    assert wide_bank(0) is bank
    other = wide_bank.__wrapped__(1)
    for kind in RECIPES:
        assert not any(np.array_equal(a, b) for a, b in zip(bank[kind], other[kind], strict=True))
        assert all(image.shape == (128, 128, 3) and not image.flags.writeable for image in bank[kind])
    code = (
        "import hashlib; from envs.apartments.wide_textures import wide_bank; "
        "print(hashlib.sha256(b''.join(t.tobytes() for k in wide_bank(0).values() for t in k)).hexdigest())"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.strip() == hashlib.sha256(b"".join(t.tobytes() for k in bank.values() for t in k)).hexdigest()


def test_cameras_of_wide_apartments_stay_in_their_ranges_and_differ() -> None:
    offsets = [camera_offset(seed) for seed in range(200)]
    assert {o.hfov for o in offsets} == {-20.0, -10.0, 0.0, 10.0, 20.0}
    assert -0.4 <= min(o.height for o in offsets) < -0.3 and 0.1 < max(o.height for o in offsets) <= 0.2
    assert max(abs(o.pitch) for o in offsets) <= np.radians(12.0)
    assert camera_offset(3) == camera_offset(3)


def test_a_quarter_of_wide_apartments_has_no_ceiling_and_the_same_floor() -> None:
    whole = generate(1, "wide", bank=0)
    ceiling = whole.face_class == whole.class_names.index("ceiling")
    opened = [without_some_ceilings(seed, whole) for seed in range(200)]
    without = [scene for scene in opened if scene is not whole]
    assert 0.17 < len(without) / 200 < 0.33
    for name in (*SHAPE[1:], "corner_uv", "corner_color", "face_texture"):
        assert getattr(without[0], name).tobytes() == getattr(whole, name)[~ceiling].tobytes(), name
    places = {wide: apartments("train", 2, 2, 0, AgentConfig(), appearance=wide) for wide in ("plain", "wide")}
    gone = [place for place in places["wide"] if not (place.scene.face_class == ceiling_of(place)).any()]
    assert len(gone) == 1 and all((p.scene.face_class == ceiling_of(p)).any() for p in places["plain"])
    for plain, wide in zip(*places.values(), strict=True):
        assert plain.episodes == wide.episodes
    # Up there is nothing: depth 0, and only in the upper half of a level view.
    place = gone[0]
    start = [np.add(place.episodes[0].start_position, [0.0, 1.25, 0.0])]
    seen = make_renderer([place.scene]).render([0], start, [0.0], Camera(64), ("depth",))["depth"][0]
    assert (seen[:32] == 0).any() and (seen[32:] > 0).all()


def ceiling_of(place: NavigableScene) -> int:
    return place.scene.class_names.index("ceiling")


def test_unknown_appearances_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown appearance 'wild': choose from plain, wide"):
        generate(0, "wild")


def test_changed_shapes_have_their_height_and_floor_area() -> None:
    changes = Changes.draw(5)
    plain, changed = generate(5), generate(5, changes=changes)
    assert float(changed.vertices[:, 1].max()) == pytest.approx(changes.ceiling, abs=1e-3)

    def area(polygon: np.ndarray) -> float:
        x, z = polygon.astype(float).T
        return abs(float(x @ np.roll(z, -1) - z @ np.roll(x, -1))) / 2.0

    scale = abs(np.linalg.det(changes.plane))
    for one, other in zip(plain.rooms, changed.rooms, strict=True):
        assert area(other.polygon) == pytest.approx(scale * area(one.polygon), rel=1e-3)


def test_exposure_keeps_the_kind_of_picture() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    changed = [expose(picture, np.random.default_rng(seed)) for seed in range(20)]
    assert all(image.dtype == np.uint8 and image.shape == picture.shape for image in changed)
    assert len({image.tobytes() for image in changed}) == 20


def test_no_apartment_of_a_split_is_in_the_stream() -> None:
    assert FIRST_SEED > 1200


SMALL = StreamConfig(size=32, views_per_scene=8, domains=("rgb", "depth_zbuffer", "class_object"))


def test_a_block_depends_on_its_number_alone() -> None:
    kind, block = render_block(3, SMALL)
    again = next(blocks(3, SMALL))
    assert kind in KINDS
    assert block["rgb"].shape == (8, 32, 32, 3) and block["depth_zbuffer"].dtype == np.uint16
    assert all(np.array_equal(load(again)[name], block[name]) for name in block)


def test_all_kinds_occur_as_often_as_asked() -> None:
    only = {kind: StreamConfig(32, 8, tuple(float(kind == k) for k in KINDS), 1, ("rgb",)) for kind in KINDS}
    pictures = {kind: render_block(0, settings) for kind, settings in only.items()}
    assert all(found == kind for kind, (found, _) in pictures.items())
    assert len({block["rgb"].tobytes() for _, block in pictures.values()}) == len(KINDS)


def test_a_reader_that_closes_ends_the_stream() -> None:
    class Closing(io.BytesIO):
        def flush(self) -> None:
            if self.tell() > 0 and len(self.getvalue()) > 10:
                raise BrokenPipeError

    out = Closing()
    write_blocks(out, 0, SMALL)
    data = out.getvalue()
    assert struct.unpack("<Q", data[:8])[0] == len(data) - 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"mix": (0.5, 0.5, 0.5, 0.0)}, "which sum to 1"),
        ({"views_per_scene": 12}, "multiple of 8"),
        ({"size": 8}, "size must be between 16"),
        ({"domains": ("rbg",)}, "did you mean 'rgb'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(words: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamConfig(**words)  # type: ignore[arg-type]


def test_the_command_says_what_is_wrong_in_one_line() -> None:
    done = run_here("envs.stream", "size=8")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_agents_in_wide_apartments_have_the_same_episodes_and_their_own_cameras() -> None:
    plain, wide = (apartments("val", 1, 4, 0, AgentConfig(), appearance=name) for name in ("plain", "wide"))
    for one, other in zip(plain, wide, strict=True):
        assert one.episodes == other.episodes and one.camera is None and other.camera is not None
    rules, camera = PointNavTask(sensors=("rgb",)), Camera(16)
    seen = {}
    for name, places in (("plain", plain), ("wide", wide)):
        nav = PointNav(places, rules, camera, 4, seed=0)
        nav.reset(np.arange(4))
        seen[name] = nav.observe()
        assert nav.picture(16).tobytes() == seen[name]["rgb"].tobytes()
        a, renderer = nav.agents, nav.renderer
        assert renderer is not None
        for n in range(4):
            own = places[a.place[n]].camera or CameraOffset()
            alone = renderer.render(
                a.place[n : n + 1],
                a.position[n : n + 1] + np.array([[0.0, own.height, 0.0]]),
                a.heading[n : n + 1],
                Camera(16, hfov=90.0 + own.hfov),
                ("rgb",),
                np.array([own.pitch]),
            )
            assert alone["rgb"][0].tobytes() == seen[name]["rgb"][n].tobytes()
    goals = "pointgoal_with_gps_compass"
    assert seen["plain"][goals].tobytes() == seen["wide"][goals].tobytes()
    assert seen["plain"]["rgb"].tobytes() != seen["wide"]["rgb"].tobytes()


def test_evaluation_looks_plain_by_default() -> None:
    env = compose("train", ["env.appearance=wide", "run=x"]).env
    assert env.appearance == "wide" and without_randomisation(env).appearance == "plain"
