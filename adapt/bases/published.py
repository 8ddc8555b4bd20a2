"""Released weights of the papers: download by name, sha256 check, cache, and conversion to the encoders here.

The Taskonomy networks are those released with Mid-Level Visual Representations (alexsax/visual-prior, branch
`networks`); each file name ends in the sha256 of the file. They land in the folder that the environment
variable `SIDESTEP_CACHE` names, by default `~/.cache/sidestep`; on a machine without network, put the files
there.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapt.core.base import IMAGENET, Base, BaseSpec, Normalisation, bases
from adapt.encoders import build_encoder
from adapt.encoders.resnet26 import ResNet26, from_release
from adapt.encoders.taskonomy import TaskonomyDecoder, TaskonomyMLPDecoder
from adapt.training.digests import file_sha256
from adapt.training.weight_files import fill, read_state
from configs.files import cache_folder
from configs.names import nearest

ADDRESS = "https://github.com/alexsax/visual-prior/raw/networks/assets/pytorch"
ENCODERS = {
    "autoencoding": "e35146c09253720e97c0a7f8ee4e896ac931f5faa1449df003d81e6089ac6307",
    "class_object": "4a4e42dad58066039a0d2f9d128bb32e93a7e4aa52edb2d2a07bcdd1a6536c18",
    "class_scene": "ad85764467cddafd98211313ceddebb98adf2a6bee2cedfe0b922a37ae65eaf8",
    "colorization": "5ed817acdd28d13e443d98ad15ebe1c3059a3252396a2dff6a2090f6f86616a5",
    "curvature": "3767cf5d06d9c6bca859631eb5a3c368d66abeb15542171b94188ffbe47d7571",
    "denoising": "b64cab95af4a2c565066a7e8effaf37d6586c3b9389b47fff9376478d849db38",
    "depth_euclidean": "88f18d41313de7dbc88314a7f0feec3023047303d94d73eb8622dc40334ef149",
    "depth_zbuffer": "cc343a8ed622fd7ee3ce54398be8682bbbbfb5d11fa80e8d03a56a5ae4e11b09",
    "edge_occlusion": "5ac3f3e918131f61e01fe95e49f462ae2fc56aa463f8d353ca84cd4e248b9c08",
    "edge_texture": "be2d686a6a4dfebe968d16146a17176eba37e29f736d5cd9a714317c93718810",
    "egomotion": "9aa647c34bf98f9e491e0b37890d77566f6ae35ccf41d9375c674511318d571c",
    "fixated_pose": "78cf321518abc16f9f4782b9e5d4e8f5d6966c373d951928a26f872e55297567",
    "inpainting": "bf96fbaaea9268a820a19a1d13dbf6af31798f8983c6d9203c00fab2d236a142",
    "jigsaw": "0c2b342c9080f8713c178b04aa6c581ed3a0112fecaf78edc4c04e0a90516e39",
    "keypoints2d": "6b77695acff4c84091c484a7b128a1e28a7e9c36243eda278598f582cf667fe0",
    "keypoints3d": "7e3f1ec97b82ae30030b7ea4fec2dc606b71497d8c0335d05f0be3dc909d000d",
    "nonfixated_pose": "3433a600ca9ff384b9898e55d86a186d572c2ebbe4701489a373933e3cfd5b8b",
    "normal": "f5e2c7737e4948e3b2a822f584892c342eaabbe66661576ba50db7cdd40561c5",
    "point_matching": "4bd2a6b2909d9998fabaf0278ab568f42f2b692a648e28555ede6c6cda5361f4",
    "reshading": "de456246e171dc8407fb2951539aa60d75925ae0f1dbb43f110b7768398b36a6",
    "room_layout": "1e1662f43b834261464b1825227a04efba59b50cc8883bee9adc3ddafd4796c1",
    "segment_semantic": "bb3007244520fc89cd111e099744a22b1e5c98cd83ed3f116fbff6376d220127",
    "segment_unsup25d": "7d12d2500c18c003ffc23943214f5dfd74932f0e3d03dde2c3a81ebc406e31a0",
    "segment_unsup2d": "b679053a920e8bcabf0cd454606098ae85341e054080f2be29473971d4265964",
    "vanishing_point": "afd2ae9b71d46a54efc5231b3e38ebc3e35bfab78cb0a78d9b75863a240b19a8",
}
DECODERS = {
    "autoencoding": "a4a006b5a8b314b9b0ae815c12cf80e4c5f2e6c703abdf65a64a020d3fef7941",
    "class_object": "3cdb6d9ec5a221ca39352e62412c2ab5ae7a00258a962b9b67fe398566ce6c5d",
    "class_scene": "517010623d64eb108ca3225fde2a87e72e3e97137b744aa12deeff2fa4f097dc",
    "curvature": "b93aed18d7510ad9502755f05c1ef569c00d1fc9c4620333a764ad0d6d131fd3",
    "denoising": "5c4e343e885ac13ed0093b4f357680437b8a81f4d36c0b27b6ac831ba5c9fce6",
    "depth_euclidean": "f8d7d0d2bdaf55fac3bdfc8c2812c599bac84985d55503ec92960a4c8b5db7e8",
    "depth_zbuffer": "4833f06833899a8d81b29c6d7eda8adf69b394a91a8c0389b0d58db523097de9",
    "edge_occlusion": "1b74d29a2b5afd9eb1a2cf2179289a31e2757909135615d5ba0a9164eb22505f",
    "edge_texture": "e241e823d6417a0c9b36b7616aad759380dfd3eb83362124e90f9ed5daa92c73",
    "inpainting": "5982904d2a3ce470ce993d89572134dd835dd809f5cfd6290334dc0fe8b1277f",
    "keypoints2d": "0157a2a18c4e1f861c725d8d4cf3701b02e9444f47e22bdd1262c879dd2d0839",
    "keypoints3d": "724ea6f255cbe4c487a984230242ec7c3557fa8234bde2487d69eacc7b9b75af",
    "normal": "8f18bfb30ee733039f05ed4a65b4db6f7cc1f8a4b9adb4806838e2bf88e020ec",
    "reshading": "5bda58f921a3065992ab0034aa0ed787af97f26ac9e5668746dae49c299606cb",
    "segment_semantic": "d74c6fcf4e0f2bbdce9afe21f9064453a2ac5c7131226527b1d0748f701d04a0",
    "segment_unsup25d": "64c1553cadf76e7efd59138321dc94d186a27eb2bb21e5e6c2624ae825bd4da1",
    "segment_unsup2d": "a0f3975a22032f116d36e3f3a49f33ddcd6e798cced3ac0962eef5bdccfc397f",
}
# Output channels of the decoders that do not have one; class_* score 1000 and 365 classes.
_CHANNELS = {
    "autoencoding": 3,
    "curvature": 2,
    "denoising": 3,
    "inpainting": 3,
    "normal": 3,
    "segment_semantic": 18,
    "segment_unsup25d": 64,
    "segment_unsup2d": 64,
}
_CLASSES = {"class_object": 1000, "class_scene": 365}
_IMAGENET_ENCODERS = ("resnet44", "fcn4", "resnet26", "wrn28_4")
_CHUNK = 1 << 20


def fetch(file: str, sha256: str, address: str = ADDRESS) -> Path:
    """Return a published file, from the cache or from the network.

    A download that breaks off leaves a `.part` file, with which the next call goes on.

    Args:
        file: its name.
        sha256: of its content.
        address: the folder of the web site that holds it.

    Raises:
        FileNotFoundError: it is neither cached nor reachable; the message says which file to put where.
        ValueError: what came has another sha256; it is not kept.
    """
    target = cache_folder() / file
    if target.is_file():
        if file_sha256(target) != sha256:
            raise ValueError(f"{target} is damaged (another sha256); delete it and try again")
        return target
    part = target.with_name(f"{file}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(f"{address}/{file}", part)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        message = f"{file} is not cached and cannot be fetched ({reason}); download {address}/{file} elsewhere"
        raise FileNotFoundError(f"{message} and put it at {target}") from error
    if file_sha256(part) != sha256:
        part.unlink()
        raise ValueError(f"{address}/{file} has another sha256 than published; it was not kept, try again")
    part.replace(target)
    return target


def _download(url: str, part: Path) -> None:
    """Append what is missing to a partial file."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            # A server that ignores the range sends the whole file again.
            with part.open("ab" if response.status == 206 else "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # The partial file is already complete.
            raise


def read_released(path: str | Path) -> dict[str, Tensor]:
    """Read a released file of weights: see `adapt.training.weight_files.read_state`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds pickled code, which is not run, or no state dict.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: give the path of a released file")
    return read_state(Path(path))


def _fill(network: nn.Module, path: str | Path) -> nn.Module:
    state = read_released(path)
    try:
        fill(network, from_release(state) if isinstance(network, ResNet26) else state)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} does not hold the weights of a {type(network).__name__}: {error}") from error
    return network


def released_base(
    path: str | Path, encoder: str, normalisation: Normalisation | None = None, task: str = "", **kwargs: Any
) -> Base:
    """A base from a file that the authors released.

    Args:
        path: the file, for example `resnet44-cifar.pth`.
        encoder: which of `adapt.encoders` it belongs to.
        normalisation: of the images; by default what the encoder was released with: ImageNet's for the networks of
            CIFAR and Decathlon, [-1,1] for all others.
        task: what the weights were trained for.
        **kwargs: settings of the encoder.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no state dict, or that of another network.
    """
    network = _fill(build_encoder(encoder, **kwargs), path)
    default = IMAGENET if encoder in _IMAGENET_ENCODERS else Normalisation()
    return Base(network, BaseSpec(encoder, kwargs, normalisation or default, task))


@bases.register("released")
def _released(name: str) -> Base:
    """The base of `<encoder>:<file>`."""
    encoder, _, file = name.partition(":")
    if not file:
        raise ValueError(f"base {encoder} needs its released weights; add base.weights=<file>")
    return released_base(file, encoder)


def _digest(kind: str, task: str) -> tuple[str, str]:
    table = ENCODERS if kind == "encoder" else DECODERS
    if task not in table:
        choices = ", ".join(table)
        raise ValueError(f"no Taskonomy {kind} {task!r}{nearest(task, table)}; choose from {choices}")
    return f"{task}_{kind}-{table[task]}.pth", table[task]


@bases.register("taskonomy")
def taskonomy_base(task: str) -> Base:
    """The published Taskonomy encoder of a task, giving codes that are not standardised, as its decoder
    expects.

    Raises:
        ValueError: no such task (the nearest is suggested), or a damaged file.
        FileNotFoundError: the weights are not cached and there is no network.
    """
    return released_base(fetch(*_digest("encoder", task)), "taskonomy", task=task, normalize_outputs=False)


def taskonomy_decoder(task: str) -> nn.Module:
    """The published Taskonomy decoder of a task; it takes codes (B,8,16,16). Raises as `taskonomy_base`."""
    path = fetch(*_digest("decoder", task))
    if task in _CLASSES:
        return _fill(TaskonomyMLPDecoder(_CLASSES[task]), path)
    return _fill(TaskonomyDecoder(_CHANNELS.get(task, 1)), path)
