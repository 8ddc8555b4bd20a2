"""Images of one's own: every form in which they lie, and runs of the benchmark `images` in one command."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from miniatures import packed_set, write
from pictures import patterns, shape_jpegs
from PIL import Image
from supervised_runs import run

from adapt.benchmarks.images import Images, ImagesConfig, chosen_size, first_classes
from adapt.datasets.images import LabelledImages, Splits, image_size, read_image
from adapt.datasets.layout import LayoutError
from adapt.datasets.own import find_set, find_sets

SHARE = 0.25


def files(root: Path, *names: str, count: int = 4) -> Path:
    """`<root>/<name>/<number>.jpg` of a shape of its own for each name."""
    for label, name in enumerate(names):
        for number, data in enumerate(shape_jpegs("photo", label % 7, count)):
            write(root / name / f"{number}.jpg", data)
    return root


def described(splits: Splits) -> tuple[int, int, tuple[str, ...]]:
    return len(splits.train), len(splits.test), splits.classes


class TestTrees:
    def test_class_folders_are_split(self, tmp_path: Path) -> None:
        splits = find_set(files(tmp_path / "pets", "cat", "dog"), SHARE, 0)
        assert described(splits) == (6, 2, ("cat", "dog"))
        assert [int(label) for label in splits.test.labels] == [0, 1]
        assert not set(map(str, splits.train.images)) & set(map(str, splits.test.images))

    @pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Val"), ("train", "validation")])
    def test_parts_are_taken_as_they_are(self, tmp_path: Path, train: str, test: str) -> None:
        files(tmp_path / train, "cat", "dog")
        files(tmp_path / test, "dog", count=3)
        splits = find_set(tmp_path, SHARE, 0)
        assert described(splits) == (8, 3, ("cat", "dog"))
        assert set(splits.test.labels.tolist()) == {1}

    def test_images_may_lie_deeper_and_test_images_without_classes_do_not_count(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files(tmp_path / "train", "cat/images", "dog/images")
        files(tmp_path / "test", "images")
        write(tmp_path / "test" / "a.jpg", shape_jpegs("photo", 0, 1)[0])
        with pytest.raises(ValueError, match=r"has the class 'images', which .* has no training images of"):
            find_set(tmp_path, SHARE, 0)
        for file in (tmp_path / "test" / "images").iterdir():
            file.unlink()
        assert described(find_set(tmp_path, SHARE, 0)) == (6, 2, ("cat", "dog"))
        assert "no test images in class folders; 25% of its train images test" in capsys.readouterr().err

    def test_a_folder_of_sets_is_several(self, tmp_path: Path) -> None:
        files(tmp_path / "pets", "cat", "dog")
        files(tmp_path / "plants" / "train", "tree", "weed")
        files(tmp_path / "plants" / "val", "tree", "weed", count=1)
        packed_set(tmp_path / "colours.npz")
        sets = find_sets(tmp_path, SHARE, 0)
        assert {name: described(splits)[2] for name, splits in sets.items()} == {
            "pets": ("cat", "dog"),
            "plants": ("tree", "weed"),
            "colours": ("0", "1", "2"),
        }
        with pytest.raises(ValueError, match="holds several sets"):
            find_set(tmp_path, SHARE, 0)

    @pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
    def test_archives_are_read_where_they_lie(self, tmp_path: Path, ending: str) -> None:
        root = files(tmp_path / "pets", "cat", "dog")
        path = tmp_path / f"animals{ending}"
        if ending == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                for file in sorted(root.rglob("*.jpg")):
                    archive.write(file, file.relative_to(tmp_path))
                archive.writestr("__MACOSX/pets/cat/._0.jpg", b"x")
        else:
            with tarfile.open(path, "w:gz" if ending == ".tar.gz" else "w") as tar:
                tar.add(root, "pets")
        sets = find_sets(path, SHARE, 0)
        assert {name: described(splits) for name, splits in sets.items()} == {"pets": (6, 2, ("cat", "dog"))}
        plain = find_set(root, SHARE, 0)
        packed = sets["pets"]
        for place in range(6):
            left, right = (LabelledImages(part.train, lambda x: x)[place] for part in (plain, packed))
            assert left[1] == right[1] and bool((left[0] == right[0]).all())

    def test_what_is_no_set_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="is absent"):
            find_sets(tmp_path / "nowhere", SHARE, 0)
        with pytest.raises(FileNotFoundError, match="holds no images"):
            find_sets(tmp_path, SHARE, 0)
        (tmp_path / "broken.zip").write_bytes(b"no archive")
        with pytest.raises(ValueError, match=r"broken.zip is neither a readable archive nor"):
            find_sets(tmp_path / "broken.zip", SHARE, 0)
        write(tmp_path / "loose" / "a.jpg", b"x")
        with pytest.raises(ValueError, match="lie in no folders that name their classes"):
            find_sets(tmp_path / "loose", SHARE, 0)
        files(tmp_path / "mixed", "cat", "more/dog", "more/cow")
        with pytest.raises(ValueError, match=r"mixes class folders \(cat\) and folders of class folders"):
            find_sets(tmp_path / "mixed", SHARE, 0)


class TestArrays:
    def saved(self, tmp_path: Path, **members: object) -> Splits:
        np.savez(tmp_path / "set.npz", **members)  # type: ignore[arg-type]
        return find_set(tmp_path / "set.npz", SHARE, 0)

    @pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "N1HW", "RGBA"])
    @pytest.mark.parametrize("values", ["uint8", "unit", "signed", "bytes", "bool"])
    def test_layouts_and_ranges_come_to_the_same_bytes(self, tmp_path: Path, layout: str, values: str) -> None:
        x = patterns(2, 4)[0]
        if values == "bool":
            x = (x > 128).astype(np.uint8) * 255
        grey = layout in ("NHW", "N1HW")
        wanted = x[..., :1].repeat(3, -1) if grey else x
        x = {"NHWC": x, "NCHW": x.transpose(0, 3, 1, 2), "NHW": x[..., 0], "N1HW": x[..., 0][:, None]}.get(
            layout, np.concatenate([x, x[..., :1]], -1)
        )
        given = {
            "uint8": x,
            "unit": x.astype(np.float32) / 255,
            "signed": x.astype(np.float32) / 127.5 - 1,
            "bytes": x.astype(np.float64),
            "bool": x > 0,
        }[values]
        splits = self.saved(tmp_path, images=given, labels=np.arange(8) % 2)
        found = np.concatenate([splits.train.images, splits.test.images])
        assert found.dtype == np.uint8 and found.shape == (8, 32, 32, 3)
        assert {image.tobytes() for image in found} == {image.tobytes() for image in wanted}

    @pytest.mark.parametrize(
        ("y", "classes"),
        [
            (np.array([3, 3, 7, 7, 7, 3, 3, 7]), ("3", "7")),
            (np.array([[0], [1]] * 4), ("0", "1")),
            (np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]], ("0", "1", "2")),
            (np.array(["dog", "cat"] * 4), ("cat", "dog")),
            (np.array([0.0, 1.0] * 4), ("0", "1")),
        ],
    )
    def test_classes_of_any_kind(self, tmp_path: Path, y: np.ndarray, classes: tuple[str, ...]) -> None:
        splits = self.saved(tmp_path, x=patterns(2, 4)[0], y=y)
        assert splits.classes == classes
        assert set(splits.train.labels.tolist()) == set(range(len(classes)))

    def test_names_of_classes(self, tmp_path: Path) -> None:
        splits = self.saved(tmp_path, x=patterns(2, 4)[0], y=np.arange(8) % 2, classes=np.array(["a", "b", "unused"]))
        assert splits.classes == ("a", "b", "unused")

    @pytest.mark.parametrize(
        "names",
        [
            ("x_train", "y_train", "x_test", "y_test"),
            ("train_images", "train_labels", "test_images", "test_labels"),
            ("X_train", "Y_train", "X_val", "Y_val"),
        ],
    )
    def test_parts_in_members(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        (x, y), (other, z) = patterns(2, 4), patterns(2, 3, part=1)
        splits = self.saved(tmp_path, **dict(zip(names, (x, y[:, None], other, z[:, None]), strict=True)))
        assert described(splits) == (8, 6, ("0", "1"))
        assert np.array_equal(splits.test.images, other)

    def test_parts_in_a_column(self, tmp_path: Path) -> None:
        x, y = patterns(2, 4)
        assert described(self.saved(tmp_path, x=x, y=y, is_test=np.arange(8) > 5))[:2] == (6, 2)
        assert described(self.saved(tmp_path, x=x, y=y, split=np.arange(8) % 3))[:2] == (6, 2)
        assert described(self.saved(tmp_path, x=x, y=y, split=np.array(["train", "val"] * 4)))[:2] == (4, 4)

    def test_encoded_images_of_several_sizes(self, tmp_path: Path) -> None:
        encoded, labels = [], []
        for number, data in enumerate([*shape_jpegs("photo", 0, 4), *shape_jpegs("photo", 1, 4)]):
            stream = io.BytesIO()
            Image.open(io.BytesIO(data)).resize((30 + number, 40)).save(stream, "JPEG")
            encoded.append(stream.getvalue())
            labels.append(number // 4)
        blob, offset = np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)])
        splits = self.saved(tmp_path, blob=blob, offset=offset, y=np.array(labels))
        assert described(splits)[:2] == (6, 2)
        learned = LabelledImages(splits.train, lambda x: x)
        assert {image_size(image) for image in splits.train.images} < {(30 + number, 40) for number in range(8)}
        assert learned[0][0].shape[1:] == image_size(splits.train.images[0])[::-1]
        assert learned.identity != LabelledImages(splits.test, lambda x: x).identity
        assert chosen_size([splits.train]) == 64

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({"a": np.zeros(3)}, "has the members a; it needs images"),
            ({"x": np.zeros((4, 8, 8)), "y": np.zeros(3)}, "4 images in x and 3 classes in y"),
            ({"x": np.zeros((4, 64)), "y": np.zeros(4)}, r"images must be \(N,H,W\)"),
            ({"x": np.full((4, 8, 8), 700), "y": np.zeros(4)}, r"must lie in 0\.\.255"),
            ({"x": np.zeros((4, 8, 8)), "y": np.zeros((4, 2))}, "classes must be"),
            ({"x": np.array([1, "a"], object), "y": np.zeros(2)}, "pickled objects"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path: Path, members: dict[str, np.ndarray], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            self.saved(tmp_path, **members)


@pytest.mark.parametrize(
    ("kind", "scale"), [(np.uint16, 1.0), (np.int32, 1.0), (np.float32, 1 / 65535), (np.float32, 255 / 65535)]
)
def test_more_than_eight_bits_are_not_cut_off(tmp_path: Path, kind: type[np.generic], scale: float) -> None:
    values = np.linspace(0, 65535, 64).reshape(8, 8)
    Image.fromarray((values * scale).astype(kind)).save(tmp_path / "deep.tif")
    assert np.abs(read_image(tmp_path / "deep.tif")[..., 0].astype(int) - values // 256).max() <= 1


@pytest.mark.parametrize("name", ["1.png", "L.png", "LA.png", "P.png", "RGBA.png", "CMYK.tif", "CMYK.jpg"])
def test_images_of_every_mode_are_rgb(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(name.partition(".")[0]).save(tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert pixels.shape == (4, 6, 3) and pixels.min() == 255


class TestBenchmark:
    def tasks(self, path: Path, **settings: object) -> list[object]:
        return list(Images(ImagesConfig(**settings)).tasks(path))  # type: ignore[arg-type]

    def test_nothing_is_cut_mirrored_or_chosen_by_chance_unless_asked(self, tmp_path: Path) -> None:
        files(tmp_path / "my pets", "cat", "dog")
        (task,) = Images(ImagesConfig(size=32)).tasks(tmp_path / "my pets")
        assert (task.name, task.augmented, task.outputs) == ("my_pets", False, 2)
        assert all(bool((task.train[0][0] == task.train[0][0]).all()) for _ in range(8))
        assert task.train[0][0].shape == (3, 32, 32)
        (other,) = Images(ImagesConfig(size=32, flip=True)).tasks(tmp_path / "my pets")
        assert other.augmented and len({other.train[0][0].numpy().tobytes() for _ in range(20)}) == 2
        (third,) = Images(ImagesConfig(size=32, crop="random")).tasks(tmp_path / "my pets")
        assert len({third.train[0][0].numpy().tobytes() for _ in range(20)}) > 15

    def test_size_follows_the_images_and_classes_can_be_left_out(self, tmp_path: Path) -> None:
        for size, wanted in ((20, 64), (130, 128), (500, 224)):
            for label in range(3):
                for number in range(3):
                    path = tmp_path / str(size) / f"class{label}" / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (size, 2 * size), (40 * label, number, 0)).save(path)
            benchmark = Images(ImagesConfig(classes=2, test_share=0.34))
            (task,) = benchmark.tasks(tmp_path / str(size))
            assert (benchmark.image_size, task.outputs) == (wanted, 2)
            assert task.test[0][0].shape == (3, wanted, wanted)
        splits = find_set(tmp_path / "20", 0.34, 0)
        assert set(first_classes(splits, 2).train.labels.tolist()) == {0, 1}

    def test_what_is_absent_shows_the_forms(self, tmp_path: Path) -> None:
        with pytest.raises(LayoutError, match=r"nowhere is absent; images expects:\n"):
            self.tasks(tmp_path / "nowhere")
        files(tmp_path / "few", "cat", "dog", count=1)
        with pytest.raises(LayoutError, match=r"none to test on, in few \(benchmark.test_share=0.2"):
            self.tasks(tmp_path / "few")

    def test_photographs_stand_upright(self, tmp_path: Path) -> None:
        files(tmp_path, "cat", "dog")
        turned, exif = Image.new("RGB", (40, 20)), Image.Exif()
        turned.paste((255, 0, 0), (0, 0, 20, 20))
        exif[0x0112] = 6  # to be turned clockwise by 90 degrees: the red half, left as stored, is above
        turned.save(tmp_path / "dog" / "turned.png", exif=exif)
        (task,) = Images(ImagesConfig(size=32, fit="squash")).tasks(tmp_path)
        images = [part[i][0] for part in (task.train, task.test) for i in range(len(part))]
        assert any(image[0, :14].min() > 200 and image[:, 18:].max() < 50 for image in images)

    def test_sets_that_cannot_be_tasks_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="has the class 'cat' alone"):
            self.tasks(files(tmp_path / "one", "cat"))
        files(tmp_path / "alike", "my pets/cat", "my pets/dog", "my_pets/cat", "my_pets/dog")
        with pytest.raises(ValueError, match="would be the task my_pets; rename my pets"):
            self.tasks(tmp_path / "alike")
        files(tmp_path / "twice", "2019/pets/cat", "2019/pets/dog", "2020/pets/cat", "2020/pets/dog")
        with pytest.raises(ValueError, match="two sets are named pets"):
            self.tasks(tmp_path / "twice")

    @pytest.mark.parametrize("protocol", ["single", "sequential", "joint"])
    def test_one_set_or_several_in_every_protocol(self, tmp_path: Path, protocol: str) -> None:
        data = tmp_path / "data"
        data.mkdir()
        for seed, name in enumerate(("first", "second")):
            packed_set(data / f"{name}.npz", seed=seed)
        words = ["benchmark=images", f"data={data}", f"protocol={protocol}", "training.length=2 passes", "adapt=bn"]
        result = run(tmp_path / "run", *words)
        assert result["tasks"] == ["first", "second"] and result["protocol"] == protocol

    def test_one_command_learns_a_set_it_has_not_seen(self, tmp_path: Path) -> None:
        packed_set(tmp_path / "colours.npz", per_class=40)
        words = ["benchmark=images", f"data={tmp_path / 'colours.npz'}", "benchmark.size=32", "training.batch=32"]
        result = run(tmp_path / "run", *words, "adapt=scratch", "training.length=8 passes")
        assert result["accuracy"] > 0.6
        assert result["images"] == 8 * 90
