"""``python -m envs.stream``: rendered views with Taskonomy's labels, written to standard output without end.

Apartments are seen once each. Some look as the environments' do; the others are changed at random in looks, shape and
camera (domain randomisation). `adapt.pretrain data=render` reads this. Block n depends on the seed and n alone, so
that a reader goes on where it stopped with ``first=n``.

A block is 8 bytes, the length of what follows (little-endian), then a safetensors file with one array of (views, ...)
per domain as `envs.taskonomy.dataset` encodes it; its metadata say of which ``kind`` (`KINDS`) the apartment is.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Annotated, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from safetensors.numpy import save

from configs.compose import cli
from configs.settings import Count, Names, Range, Settings, Share, Whole, as_list
from envs.apartments.generator import generate
from envs.apartments.shape_changes import Changes
from envs.navgrid.grid import NavGrid
from envs.rendering.renderer import Renderer, make_renderer
from envs.taskonomy.dataset import DOMAINS, RenderedView, Viewpoint, check_domains
from envs.taskonomy.viewpoints import sample_agent, sample_taskonomy

# Beyond all apartments of the splits, so that no apartment is in training and evaluation.
FIRST_SEED = 100_000
BLOCKS_PER_SEED = 10_000_000
BLOCKS_PER_BANK = 100  # Blocks that choose from one bank of textures.
VIEWS_PER_POINT = 4
ATTEMPTS = 20  # Apartments tried for a block; where one offers no views, the next is taken.
# Kinds of apartments: as they are; of other looks; of other shape; of other looks and shape.
KINDS = ("plain", "looks", "shape", "wide")


@dataclass(frozen=True)
class StreamConfig(Settings):
    """Settings of the rendered stream.

    Attributes:
        size: Pixels per side.
        views_per_scene: Views of every apartment, a multiple of 8.
        mix: Shares of apartments: plain, of other looks, of other shape, of other looks and shape.
        seed: Other apartments for every seed.
        domains: all, or a list, such as [rgb,principal_curvature,mask_valid].
    """

    size: Annotated[int, Range(16, 4096)] = 64
    views_per_scene: Annotated[int, Range(8, 100_000)] = 64
    mix: tuple[Share, Share, Share, Share] = (0.4, 0.15, 0.05, 0.4)
    seed: Annotated[int, Range(0, 199)] = 0
    domains: Names = "all"

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_domains(self.labels)
        self.require(self.views_per_scene % 8 == 0, "views_per_scene", "a multiple of 8")
        self.require(abs(sum(self.mix) - 1.0) <= 1e-6, "mix", f"the shares of {', '.join(KINDS)}, which sum to 1")

    @property
    def labels(self) -> list[str]:
        """The domains by name."""
        return list(DOMAINS) if self.domains == "all" else as_list(self.domains)


def render_block(number: int, settings: StreamConfig) -> tuple[str, dict[str, NDArray[Any]]]:
    """Render the views of one apartment.

    Args:
        number: Number of the block, at least 0.
        settings: What to render.

    Returns:
        The kind of the apartment, and per domain the labels of all views, (views, S, S[, C]) or (views, classes).

    Raises:
        ValueError: None of several apartments offers enough views.
    """
    first = FIRST_SEED + settings.seed * BLOCKS_PER_SEED + number
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([settings.seed, number, attempt])
        kind = str(rng.choice(KINDS, p=settings.mix))
        seed = first + attempt * 200 * BLOCKS_PER_SEED
        changes = Changes.draw(seed) if kind in ("shape", "wide") else None
        looks = "wide" if kind in ("looks", "wide") else "plain"
        scene = generate(seed, looks, changes, number // BLOCKS_PER_BANK)
        renderer = make_renderer([scene])
        try:
            viewpoints = choose_viewpoints(renderer, NavGrid.build(scene), rng, settings.views_per_scene, kind)
        except ValueError:
            continue
        views = [RenderedView.render(scene, renderer, at, settings.size) for at in viewpoints]
        for view in views if kind != "plain" else ():
            view.rgb = expose(view.rgb, rng)
        return kind, {name: np.stack([view.label(name) for view in views]) for name in settings.labels}
    raise ValueError(f"none of {ATTEMPTS} apartments offers {settings.views_per_scene} views; ask for fewer per scene")


def choose_viewpoints(
    renderer: Renderer, grid: NavGrid, rng: np.random.Generator, views: int, kind: str
) -> list[Viewpoint]:
    """Half of the views an agent's, half Taskonomy's; where the apartment is changed, every other camera is, too."""
    half = views // 2
    viewpoints = sample_agent(renderer, 0, grid, rng, half, 1)
    viewpoints += sample_taskonomy(renderer, 0, grid, rng, half // VIEWS_PER_POINT, VIEWS_PER_POINT)
    if kind == "plain":
        return viewpoints
    return [_moved(at, rng) if index % 2 else at for index, at in enumerate(viewpoints)]


def _moved(at: Viewpoint, rng: np.random.Generator) -> Viewpoint:
    """Another height, pitch and field of view; what the camera then fixates is left open."""
    x, y, z = at.location
    return replace(
        at,
        location=(x, y + float(rng.uniform(-0.8, 0.4)), z),
        pitch=at.pitch + float(np.radians(rng.normal(0.0, 10.0))),
        hfov=float(rng.uniform(50.0, 110.0)),
        distance=0.0,
        normal=(0.0, 0.0, 0.0),
    )


def expose(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another camera's picture: saturation, white balance, contrast, gamma, exposure, and some noise of the sensor.

    Args:
        rgb: (H, W, 3) uint8.
        rng: Source of the change.

    Returns:
        (H, W, 3) uint8.
    """
    image = rgb.astype(np.float32) / np.float32(255.0)
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + np.float32(rng.choice([0.0, rng.uniform(0.1, 1.0), 1.0], p=(0.1, 0.6, 0.3))) * (image - grey)
    image = image ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    image *= (np.exp(rng.uniform(-0.35, 0.35)) * np.exp(rng.uniform(-0.15, 0.15, 3))).astype(np.float32)
    image = np.float32(0.5) + (image - np.float32(0.5)) * np.float32(np.exp(rng.uniform(-0.5, 0.2)))
    if rng.random() < 0.2:
        image += rng.normal(0.0, rng.uniform(0.0, 0.04), image.shape).astype(np.float32)
    return np.asarray((image.clip(0.0, 1.0) * np.float32(255.0) + np.float32(0.5)).astype(np.uint8))


def blocks(first: int, settings: StreamConfig, step: int = 1) -> Iterator[bytes]:
    """Encoded blocks from number `first` on, every `step`-th, without end."""
    for number in count(first, step):
        kind, arrays = render_block(number, settings)
        yield save(arrays, {"kind": kind, "number": str(number)})


def write_blocks(out: BinaryIO, first: int, settings: StreamConfig, step: int = 1) -> None:
    """Write blocks, each behind its length, until the reader closes."""
    try:
        for data in blocks(first, settings, step):
            out.write(struct.pack("<Q", len(data)))
            out.write(data)
            out.flush()
    except BrokenPipeError:
        return


@dataclass(frozen=True)
class StreamCommand(StreamConfig):
    """Settings of ``python -m envs.stream``.

    Attributes:
        first: Number of the first block.
        step: Every step-th block, so that several processes share the work.
    """

    first: Whole = 0
    step: Count = 1


@cli("stream", StreamCommand)
def main(cfg: DictConfig) -> None:
    """Write the stream to standard output."""
    settings = StreamCommand.from_settings(OmegaConf.to_container(cfg))  # type: ignore[arg-type]
    write_blocks(sys.stdout.buffer, settings.first, settings, settings.step)


if __name__ == "__main__":
    main()
