"""Images and packed data as users have them: cut off, too large, of another kind, with labels that are none."""

from __future__ import annotations

import io
import json
import lzma
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures_broken import LFS, PAGE, huge_png, picture
from PIL import Image

from adapt.benchmarks.benchmark import build_benchmark
from adapt.core.checkpoint import as_task_name, check_task_name
from adapt.core.decoding import read_npy, read_npz
from adapt.costs.omniglot import read_omniglot
from adapt.datasets.cifar import read_cifar100
from adapt.datasets.decathlon import read_annotations
from adapt.datasets.images import Labelled, packed_labels, read_image, split
from adapt.datasets.own import array_set, find_sets
from adapt.datasets.packed import parts_of, read_packed
from adapt.datasets.squad import read_articles
from adapt.datasets.voc import SegmentedImages, sbd_label, voc_label
from adapt.pretraining.data import TaskonomyViews
from envs.contact_sheets import sheet

BROKEN = {
    "bomb": (huge_png(), "decompression bomb"),
    "cut": (picture(64)[:-2000], "truncated|broken"),
    "empty": (b"", "it is empty"),
    "lfs": (LFS, "it is a Git LFS pointer"),
    "page": (PAGE, "it is a web page"),
    "text": (b"no image", "it is no image that Pillow reads"),
}


def read_splits(path, share, seed):
    """Packed images as benchmarks read them: images, classes, and which test."""
    members = read_packed(path)
    labels, classes = packed_labels(members, path)
    if "is_test" in members:
        parts_of(members, path, len(labels))
    return split(Labelled(members["x"], labels), classes, share, seed)


@pytest.mark.parametrize("kind", BROKEN)
def test_an_image_that_cannot_be_decoded_is_one_line(tmp_path, kind):
    """Formerly a DecompressionBombError traceback."""
    content, said = BROKEN[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (read_image, voc_label):
        with pytest.raises(ValueError, match=rf"cannot decode .*a\.png: .*({said})") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_an_image_up_to_the_limit_is_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # warned of from there, refused from twice as many
    (tmp_path / "a.png").write_bytes(picture(8))
    assert read_image(tmp_path / "a.png").shape == (8, 8, 3)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_view_that_cannot_be_read_is_one_line(tmp_path, kind):
    content, said = BROKEN[kind]
    for view in range(2):
        path = tmp_path / "rgb" / "b" / f"point_0_view_{view}_domain_rgb.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if view else picture())
    views = TaskonomyViews([tmp_path], ["rgb"])
    with pytest.raises(ValueError, match=rf"view_1_domain_rgb\.png.*({said})"):
        views.batch([0, 1])
    if kind != "cut":
        with pytest.raises(ValueError, match=rf"view_1_domain_rgb\.png.*({said}|cannot identify)"):
            sheet(tmp_path, "rgb", [("b", 0, 1)])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_a_view_of_another_kind_than_the_others_is_one_line(tmp_path, mode):
    for view in range(2):
        path = tmp_path / "rgb" / "b" / f"point_0_view_{view}_domain_rgb.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(8, mode=mode if view else "RGB"))
    with pytest.raises(
        ValueError, match=r"view_1_domain_rgb\.png holds uint8\(8, 8.*other views have uint8\(8, 8, 3\)"
    ):
        TaskonomyViews([tmp_path], ["rgb"]).batch([0, 1])


def test_a_npy_that_is_none_is_one_line(tmp_path):
    path = tmp_path / "a.npy"
    stream = io.BytesIO()
    np.save(stream, np.arange(10))
    whole = stream.getvalue()
    huge = whole.replace(b"(10,)", b"(9999999999999,)", 1)
    for content, said in (
        (b"", "it is empty"),
        (LFS, "it is a Git LFS pointer"),
        (PAGE, "it is a web page"),
        (b"text", "it is no file of NumPy's"),
        (pickle.dumps([1]), "it is no file of NumPy's"),
        (whole[:-9], "is not a readable npy file"),
        (whole[:40], "is not a readable npy file"),
        (huge, "is not a readable npy file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.npy is not a readable npy file: .*{said}|{said}") as caught:
            read_npy(path)
        assert "\n" not in str(caught.value)


# -- packed data ------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])
JPEGS = [picture(32, "jpeg", seed) for seed in range(6)]
PLAIN = {"x": X, "y": Y, "is_test": Y == 2, "domain": Y % 2, "domains": np.array(["a", "b"])}
JPEG = {"blob": np.frombuffer(b"".join(JPEGS), np.uint8), "offset": np.cumsum([0, *map(len, JPEGS)]), "y": Y}


def packed(path: Path, members: dict[str, object]) -> Path:
    np.savez(path, **members)
    return path


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("y", np.array(["cat"] * 6), r"y must be 6 whole numbers, it is <U3\(6,\)"),
        ("y", Y + 0.5, "y must be 6 whole numbers, it is float64"),
        ("y", np.full(6, np.nan), "y must be 6 whole numbers"),
        ("y", Y[:5], r"y must be 6 whole numbers, it is int64\(5,\)"),
        ("y", Y[:, None], "y must be 6 whole numbers"),
        ("y", Y.astype(complex), "y must be 6 whole numbers"),
        ("y", Y * 10**9, r"y must be in 0\.\.65535, it goes from 0 to 2000000000"),
        ("y", Y - 1, "y must be in 0.*goes from -1"),
        ("y", np.full(6, 2**63, np.uint64), "y must be in 0"),
        ("is_test", np.array(["yes"] * 6), "is_test must be 6 whole numbers"),
        ("is_test", Y, r"is_test must be in 0\.\.1"),
        ("classes", np.array([["a"]]), "classes must be a list of names"),
        ("classes", np.array(["a", "b"]), r"y must be in 0\.\.1, it goes from 0 to 2"),
        ("x", X.astype(np.float32), r"x must be uint8 images \(N,H,W,3\), it is float32"),
        ("x", X[..., 0], "x must be uint8 images"),
        ("x", np.array("text"), "x must be uint8 images"),
        ("x", X[:, :0], "x must be uint8 images"),
        ("y", None, "has no array y"),
    ],
)
def test_an_array_of_another_kind_is_named(tmp_path, name, value, said):
    """Formerly UFuncNoLoopError, TypeError and MemoryError tracebacks."""
    members = {k: v for k, v in {**PLAIN, name: value}.items() if v is not None}
    path = packed(tmp_path / "a.npz", members)
    with pytest.raises(ValueError, match=said) as caught:
        read_splits(path, 0.3, 0)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("whole", [Y.astype(float), Y.astype(np.uint8), Y.astype(bool)])
def test_labels_of_any_whole_type_are_taken(tmp_path, whole):
    splits = read_splits(packed(tmp_path / "a.npz", {"x": X, "y": whole}), 0.34, 0)
    assert len(splits.train) + len(splits.test) == 6 and splits.train.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("offset", JPEG["offset"].astype(float) + 0.5, "offset must be 7 whole numbers, it is float64"),
        ("offset", JPEG["offset"] * 10, "offset must be in 0"),
        ("offset", JPEG["offset"][::-1].copy(), "offset must be the rising borders"),
        ("offset", np.array([3]), "offset must be the rising borders"),
        ("offset", np.array([["a"]]), "offset must be 1 whole numbers"),
        ("offset", np.arange(7), r"cannot decode image 0 of .*a\.npz"),
        ("blob", np.frombuffer(huge_png() * 120, np.uint8), r"cannot decode image 0 of .*decompression bomb"),
        ("blob", JPEG["blob"].astype(np.int64), "blob must be bytes"),
        ("blob", np.array("text"), "blob must be bytes"),
    ],
)
def test_jpeg_files_end_to_end_of_another_kind_are_named(tmp_path, name, value, said):
    path = packed(tmp_path / "a.npz", {**JPEG, name: value})
    with pytest.raises(ValueError, match=said) as caught:
        read_splits(path, 0.3, 0)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert read_packed(packed(tmp_path / "b.npz", JPEG))["x"].shape == (6, 32, 32, 3)


@pytest.mark.parametrize(
    ("payload", "shape", "said"),
    [
        (lzma.compress(bytes(96)), [2, 3, 4, 4], ""),
        (lzma.compress(bytes(96)), [2, 3, 4, 5], "payload holds fewer bytes than shape says"),
        (lzma.compress(bytes(10**7)), [2, 3, 4, 4], "payload holds more bytes than shape says"),
        (lzma.compress(bytes(96)), [10**6, 3, 10**3, 10**3], "shape must be the size"),
        (lzma.compress(bytes(96)), [2, 3, -4, 4], "shape must be in 0"),
        (lzma.compress(bytes(96)), [2, 3, 4], "shape must be 4 whole numbers"),
        (lzma.compress(bytes(96)), [6, 1, 4, 4], "shape must be the size"),
        (b"no stream", [2, 3, 4, 4], "payload is no LZMA stream"),
        (lzma.compress(bytes(96))[:-20], [2, 3, 4, 4], ""),
    ],
)
def test_predicted_images_of_another_kind_are_named(tmp_path, payload, shape, said):
    path = packed(tmp_path / "a.npz", {"payload": np.frombuffer(payload, np.uint8), "shape": np.array(shape)})
    if not said:
        assert read_packed(path)["x"].shape == (2, 4, 4, 3)
        return
    with pytest.raises(ValueError, match=said) as caught:
        read_packed(path)
    assert str(path) in str(caught.value)


def test_a_npz_that_is_none_or_damaged_is_one_line(tmp_path):
    whole = packed(tmp_path / "whole.npz", PLAIN).read_bytes()
    stream, objects = io.BytesIO(), io.BytesIO()
    np.save(stream, X)
    np.savez(objects, x=np.array([{"a": 1}], dtype=object))
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x.npy", b"no array")
    flipped = bytearray(whole)
    flipped[200] ^= 0xFF
    path = tmp_path / "a.npz"
    for content, said in (
        (b"", "it is empty"),
        (LFS, "it is a Git LFS pointer"),
        (whole[:-30], "is not a readable npz file"),
        (whole[: len(whole) // 2], "is not a readable npz file"),
        (stream.getvalue(), "it holds one array"),
        (objects.getvalue(), "its array x: it holds pickled objects, which could run code|pickled objects"),
        (bytes(flipped), "its array x: "),
        (other.getvalue(), "its array x: it is none"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.npz is not a readable npz file: .*{said}|{said}") as caught:
            read_npz(path)
        assert "\n" not in str(caught.value)


def test_what_would_not_fit_into_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.npz", PLAIN)
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    with pytest.raises(ValueError, match=r"it unpacks to [0-9.]+ GiB, and this machine has [0-9.]+ GiB"):
        read_npz(path)


def test_packed_cifar_domains_and_omniglot_name_the_array(tmp_path):
    (tmp_path / "c").mkdir()
    path = packed(tmp_path / "c" / "cifar100.npz", {**PLAIN, "y": Y + 100})
    with pytest.raises(ValueError, match=r"cifar100\.npz: y must be in 0\.\.99"):
        read_cifar100(tmp_path / "c")
    packed(path, {**PLAIN, "x": X[:, :16]})
    with pytest.raises(ValueError, match=r"cifar100\.npz: CIFAR-100 has images of 32x32x3"):
        read_cifar100(tmp_path / "c")
    benchmark = build_benchmark("domainnet", size=32)
    for name, value, said in (
        ("domain", Y, r"domain must be in 0\.\.1"),
        ("domains", np.array([1.5, 2.5]), "domains must be a list of names"),
        ("y", Y * 10**9, "y must be in 0"),
    ):
        with pytest.raises(ValueError, match=said):
            benchmark.tasks(packed(tmp_path / "d.npz", {**PLAIN, name: value}))
    bits = {"bits": np.zeros((4, 1379), np.uint8), "shape": [4, 105, 105], "y": [0, 1, 2, 3], "drawer": [1, 1, 20, 20]}
    assert len(read_omniglot(packed(tmp_path / "o.npz", bits)).images) == 2
    for name, value, said in (
        ("shape", [4, 105, 10**6], "shape must be in|bits must be"),
        ("bits", np.zeros((4, 100), np.uint8), "bits must be the packed bits"),
        ("y", ["a"] * 4, "y must be 4 whole numbers"),
        ("drawer", [1.5] * 4, "drawer must be 4 whole numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            read_omniglot(packed(tmp_path / "o.npz", {**bits, name: value}))


def test_a_list_of_images_with_an_impossible_class_is_refused(tmp_path):
    (tmp_path / "photo" / "cat").mkdir(parents=True)
    (tmp_path / "photo" / "cat" / "0.png").write_bytes(picture())
    for part in ("train", "test"):
        (tmp_path / f"photo_{part}.txt").write_text("photo/cat/0.png 4000000000\n")
    with pytest.raises(OSError, match="has in line 1 the class 4000000000, which is none"):
        build_benchmark("domainnet", size=32).tasks(tmp_path)


def test_a_label_image_with_a_class_that_is_none_is_named(tmp_path):
    """Formerly an IndexError of the loss."""
    (tmp_path / "a.png").write_bytes(picture(8))
    label = np.zeros((8, 8), np.uint8)
    label[3, 3], label[0, 0] = 77, 255
    Image.fromarray(label).save(tmp_path / "l.png")
    with pytest.raises(ValueError, match=r"l\.png holds the class 77; classes are 0\.\.20"):
        SegmentedImages([tmp_path / "a.png"], [tmp_path / "l.png"], voc_label)[0]
    for content, said in (
        (b"", "it is empty"),
        (LFS, "Git LFS pointer"),
        (b"MATLAB 5.0 MAT-file" + bytes(200), "cannot read"),
    ):
        (tmp_path / "l.mat").write_bytes(content)
        with pytest.raises(ValueError, match=said):
            sbd_label(tmp_path / "l.mat")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda qa: qa | {"question": 3}, "something else than text"),
        (lambda qa: qa | {"answers": [{"text": "b", "answer_start": 99}]}, "an answer that starts at 99"),
        (lambda qa: qa | {"answers": [{"text": "b", "answer_start": "2"}]}, "an answer that starts at '2'"),
        (lambda qa: qa | {"answers": 3}, "TypeError"),
        (lambda qa: {}, "KeyError"),
        (lambda qa: [], "TypeError"),
    ],
)
def test_a_question_of_another_form_anywhere_in_a_file_is_one_line(tmp_path, change, said):
    """Formerly only the first article was looked at."""
    good = {"id": "1", "question": "q", "answers": [{"text": "b", "answer_start": 2}]}
    articles = [{"paragraphs": [{"context": "a b c", "qas": [qa]}]} for qa in (good, change(good))]
    (tmp_path / "q.json").write_text(json.dumps({"data": articles}))
    with pytest.raises(ValueError, match=rf"q\.json is no SQuAD 2\.0 file \(.*{said}"):
        read_articles(tmp_path / "q.json")


@pytest.mark.parametrize("name", [3, None, ["a.jpg"]])
def test_a_file_name_of_another_type_in_annotations_is_one_line(tmp_path, name):
    (tmp_path / "annotations").mkdir()
    notes = {"images": [{"id": 0, "file_name": name}], "annotations": [{"image_id": 0, "category_id": 0}]}
    notes["categories"] = [{"id": 0, "name": "c"}]
    (tmp_path / "annotations" / "dtd_train.json").write_text(json.dumps(notes))
    with pytest.raises(ValueError, match=r"dtd_train\.json is no annotation file"):
        read_annotations(tmp_path, "dtd", "train")


# -- sets of one's own ------------------------------------------------------------------------------------------------

NUMBERS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
CLASSES = np.arange(12) % 3


def spoiled(value: float, scale: float = 1.0) -> np.ndarray:
    images = NUMBERS / 255.0 * scale
    images[3, 2, 2, 1] = value
    return images


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"x": spoiled(np.nan), "y": CLASSES}, "1 of 12 images hold NaN or infinity, the first is number 3"),
        ({"x": spoiled(np.inf, 255.0), "y": CLASSES}, "1 of 12 images hold NaN or infinity"),
        ({"x": NUMBERS[:, :0], "y": CLASSES}, "must have a height and a width"),
        ({"x": NUMBERS, "y": np.where(CLASSES == 0, np.inf, CLASSES)}, "classes must be whole numbers"),
        ({"x": NUMBERS, "y": np.where(CLASSES == 0, np.nan, CLASSES)}, "classes must be whole numbers"),
        ({"x": NUMBERS, "y": np.where(CLASSES == 0, 1e300, CLASSES)}, "classes must be whole numbers"),
        ({"x": NUMBERS, "images": NUMBERS[:2], "y": CLASSES}, "has x and images, and one of them is needed"),
        ({"x": NUMBERS, "y": CLASSES, "labels": CLASSES}, "has y and labels, and one of them is needed"),
    ],
)
def test_arrays_with_nothing_to_go_by_are_refused(tmp_path, members, said, recwarn):
    """Infinite classes were cast to a whole number, images without pixels ended in a ZeroDivisionError."""
    np.savez(tmp_path / "a.npz", **members)
    with pytest.raises(ValueError, match=rf"a\.npz.*{said}"):
        array_set(tmp_path / "a.npz", 0.3, 0)
    assert not recwarn.list


def test_pixels_as_rows_beside_images_are_no_second_images(tmp_path):
    np.savez(tmp_path / "a.npz", data=NUMBERS.reshape(12, -1), images=NUMBERS, target=CLASSES)
    assert array_set(tmp_path / "a.npz", 0.5, 0).train.images.shape[1:] == (8, 8, 3)


def set_of(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {".avif": "png", ".jp2": "png", ".heic": "png"}.get(Path(name).suffix.lower())
        Image.fromarray(NUMBERS[0]).save(folder / name, kind)
    return folder


PAIR = [f"{name}/{number}.png" for name in "ab" for number in range(4)]


@pytest.mark.parametrize(
    ("names", "made", "said"),
    [
        ([*PAIR, "a/x.heic", "c/y.HEIC"], (), r"not read are passed over \(2: \.heic\); convert"),
        ([*PAIR, "c/y.HEIC"], (), "no images in c, which are no classes"),
        (PAIR, ("c", "d"), "no images in c, d, which are no classes"),
        ([*PAIR, "cover.png"], (), r"beside class folders are passed over \(1, such as cover\.png\)"),
        (PAIR, (), ""),
    ],
)
def test_what_is_left_out_of_a_set_is_said(tmp_path, capsys, names, made, said):
    """A class of pictures that Pillow does not read was lost without a word."""
    set_of(tmp_path / "s", *names)
    for name in made:
        (tmp_path / "s" / name).mkdir()
    (sets,) = find_sets(tmp_path / "s", 0.25, 0).values()
    warned = capsys.readouterr().err
    assert sets.classes == ("a", "b") and len(sets.train) == 6
    assert re.search(said, warned) and bool(warned) == bool(said)


def test_images_of_rarer_names_are_images(tmp_path):
    set_of(tmp_path, *PAIR, "a/x.jfif", "a/y.JPE", "b/z.avif", "b/z.jp2")
    (sets,) = find_sets(tmp_path, 0.25, 0).values()
    assert len(sets.train) + len(sets.test) == 12


def test_test_images_alone_are_not_trained_on(tmp_path):
    set_of(tmp_path, *(f"test/{name}" for name in PAIR), *(f"val/{name}" for name in PAIR))
    with pytest.raises(ValueError, match="has images in test, val alone"):
        find_sets(tmp_path, 0.25, 0)


def test_sets_named_in_any_alphabet_are_tasks_of_these_names():
    """Two sets of Chinese names were both the task "_"."""
    assert as_task_name("猫") == "猫" and as_task_name("größe 1.5") == "größe_1_5"
    assert as_task_name("u\u0308") == "ü"
    for name in ("猫", "größe_1_5", "ü"):
        check_task_name(name)
