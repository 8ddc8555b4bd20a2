from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from released_layouts import LAYOUTS
from tiny_networks import filled

from adapt import load_base
from adapt.bases.published import DECODERS, ENCODERS, fetch, read_released, released_base, taskonomy_decoder
from adapt.core.base import IMAGENET
from adapt.encoders import build_encoder

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT from the requested byte on; notes where each request started."""

    starts: list[int]

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.starts.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("SIDESTEP_CACHE", str(tmp_path))
    Server.starts = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_fetched_once_and_checked(address: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch("a.pth", SHA256, address).read_bytes() == CONTENT
    assert Server.starts == [0]
    (tmp_path / "a.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="delete it"):
        fetch("a.pth", SHA256, address)


@pytest.mark.parametrize("have", [1000, len(CONTENT)])
def test_a_broken_download_goes_on_where_it_broke(address: str, tmp_path: Path, have: int) -> None:
    (tmp_path / "a.pth.part").write_bytes(CONTENT[:have])
    assert fetch("a.pth", SHA256, address).read_bytes() == CONTENT
    assert Server.starts == [have]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_wrong_content_is_not_kept(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another sha256 than published"):
        fetch("a.pth", "0" * 64, address)
    assert not list(tmp_path.iterdir())


def test_offline_error_names_file_and_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIDESTEP_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"a\.pth is not cached.*put it at {tmp_path}/a\.pth"):
        fetch("a.pth", SHA256, "http://127.0.0.1:9")


def test_taskonomy_names() -> None:
    assert len(ENCODERS) == 25
    assert set(DECODERS) < set(ENCODERS)
    with pytest.raises(ValueError, match="did you mean 'curvature'"):
        load_base("taskonomy/curvatur")
    with pytest.raises(ValueError, match="no Taskonomy decoder 'egomotion'"):
        taskonomy_decoder("egomotion")


def publish(
    monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, task: str, state: dict[str, torch.Tensor]
) -> Path:
    """Put a state dict into the cache as if it were the published file of a task."""
    table = ENCODERS if kind == "encoder" else DECODERS
    content = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 1}, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path = folder / f"{task}_{kind}-{digest}.pth"
    path.write_bytes(content.getvalue())
    monkeypatch.setenv("SIDESTEP_CACHE", str(folder))
    monkeypatch.setitem(table, task, digest)
    return path


def random_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Random values in a released layout."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.tensor(3) if name.endswith("num_batches_tracked") else torch.rand(shape, generator=generator)
        for name, shape in shapes.items()
    }


RELEASED = [
    ("encoder", "curvature", "TaskonomyEncoder"),
    ("decoder", "depth_zbuffer", "TaskonomyDecoder_1"),
    ("decoder", "curvature", "TaskonomyDecoder_2"),
    ("decoder", "normal", "TaskonomyDecoder_3"),
    ("decoder", "segment_semantic", "TaskonomyDecoder_18"),
    ("decoder", "class_object", "TaskonomyDecoder_mlp_1000"),
]


@pytest.mark.parametrize(("kind", "task", "layout"), RELEASED, ids=[layout for *_, layout in RELEASED])
def test_released_layouts_load_strictly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, task: str, layout: str
) -> None:
    """Random values under the released keys arrive value by value; one key or shape off is refused."""
    shapes = LAYOUTS[layout]
    state = random_state(shapes)
    publish(monkeypatch, tmp_path, kind, task, state)
    load = (lambda: load_base(f"taskonomy/{task}").encoder) if kind == "encoder" else (lambda: taskonomy_decoder(task))
    loaded = load().state_dict()
    assert {name: list(tensor.shape) for name, tensor in loaded.items()} == shapes
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())

    name = next(iter(state))
    for wrong in ({k: t for k, t in state.items() if k != name}, state | {name: state[name][..., :1]}):
        publish(monkeypatch, tmp_path, kind, task, wrong)
        with pytest.raises(ValueError, match=f"(?s)does not hold the weights of a Taskonomy.*{name}"):
            load()


def test_a_file_of_the_right_name_and_wrong_content_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIDESTEP_CACHE", str(tmp_path))
    path = tmp_path / f"curvature_encoder-{ENCODERS['curvature']}.pth"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=rf"{path.name} is damaged \(another sha256\); delete it and try again"):
        load_base("taskonomy/curvature")
    assert path.exists()


def test_a_published_encoder_in_the_cache_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_encoder("taskonomy", normalize_outputs=False)
    publish(monkeypatch, tmp_path, "encoder", "curvature", network.state_dict())
    base = load_base("taskonomy/curvature")
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = network.eval()(images.float() / 255 * 2 - 1)
        assert expected.std() > 0
        torch.testing.assert_close(base(images), expected, atol=1e-5, rtol=1e-4)


def released_name(name: str) -> str:
    """A name of this ResNet-26 as the released code has it, for its first task."""
    layer, leaf = name.rsplit(".", 1)
    if layer == "end_bn":
        return f"end_bns.0.0.{leaf}"
    block, _, part = layer.rpartition(".")
    owner = "pre_layers_conv" if not block else f"{block}.conv1" if part.endswith("1") else f"{block}.conv2.1"
    return f"{owner}.{'conv' if part.startswith('conv') else 'bns.0'}.{leaf}"


def test_the_released_resnet26_is_renamed(tmp_path: Path) -> None:
    network = build_encoder("resnet26", width=0.25)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape))
    released = {f"module.{released_name(n)}": t for n, t in network.state_dict().items() if "num_batches" not in n}
    assert "module.layer2.3.conv2.1.bns.0.running_var" in released
    extra = {"module.linears.0.weight": torch.zeros(10, 64), "module.pre_layers_conv.bns.1.weight": torch.zeros(8)}
    torch.save({**released, **extra}, tmp_path / "r.pt")
    base = released_base(tmp_path / "r.pt", "resnet26", width=0.25)
    for name, tensor in network.state_dict().items():
        assert "num_batches" in name or torch.equal(tensor, base.encoder.state_dict()[name])
    torch.save(network.state_dict(), tmp_path / "own.pt")
    assert torch.equal(
        released_base(tmp_path / "own.pt", "resnet26", width=0.25).encoder.conv1.weight, network.conv1.weight
    )
    del released["module.end_bns.0.0.bias"]
    torch.save(released, tmp_path / "r.pt")
    with pytest.raises(ValueError, match="does not hold the weights of a ResNet26"):
        released_base(tmp_path / "r.pt", "resnet26", width=0.25)


def test_a_released_cifar_file_becomes_a_base(tmp_path: Path) -> None:
    network = filled(build_encoder("resnet44"))
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"best_prec1": 93.14, "state_dict": state}, tmp_path / "resnet44.pth")
    base = released_base(tmp_path / "resnet44.pth", "resnet44", IMAGENET, task="cifar10")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert base.spec.task == "cifar10" and base.feature_shape(32) == (64,)
    assert torch.equal(base(images), network(IMAGENET(images)))
    torch.save({"state_dict": build_encoder("fcn4")}, tmp_path / "fcn4.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_released(tmp_path / "fcn4.pth")
    with pytest.raises(ValueError, match="does not hold the weights of a FCN4"):
        released_base(tmp_path / "resnet44.pth", "fcn4")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        read_released(tmp_path / "absent.pth")
