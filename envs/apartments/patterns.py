"""Periodic patterns that `envs.apartments.textures` is made of; all are 128 x 128 and tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 128
Color = tuple[float, float, float]
Field = NDArray[np.float64]

_ROW, _COLUMN = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE, (np.arange(SIZE) + 0.5) / SIZE, indexing="ij")


def image_of(field: Field) -> NDArray[np.uint8]:
    """Quantise colours in [0, 1] to bytes."""
    return (np.clip(field, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def smooth_noise(rng: np.random.Generator, cutoff: tuple[float, float]) -> Field:
    """Return periodic Gaussian noise of unit variance; `cutoff` is in cycles per tile, down and across."""
    rows = np.fft.fftfreq(SIZE)[:, None] * SIZE / cutoff[0]
    columns = np.fft.rfftfreq(SIZE)[None] * SIZE / cutoff[1]
    return _filtered(rng, np.exp(-0.5 * (rows**2 + columns**2)))


def lattice_noise(rng: np.random.Generator, power: float) -> Field:
    """Return periodic noise of unit variance whose amplitude falls with frequency to the `power`."""
    rows = np.fft.fftfreq(SIZE)[:, None] * SIZE
    columns = np.fft.rfftfreq(SIZE)[None] * SIZE
    return _filtered(rng, np.maximum(np.hypot(rows, columns), 1.0) ** -power)


def _filtered(rng: np.random.Generator, gain: Field) -> Field:
    """Return white noise through a filter, with mean 0 and variance 1."""
    gain = gain.copy()
    gain[0, 0] = 0.0
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * gain, s=(SIZE, SIZE))
    return noise / noise.std()


def stripes(count: int, share: float) -> Field:
    """Return upright soft stripes."""
    return _soft(np.cos(2.0 * np.pi * count * _COLUMN) - np.cos(np.pi * share))


def dots(count: int, radius: float) -> Field:
    """Return staggered dots; `radius` is relative to their spacing."""
    row = _ROW * count * 2.0
    column = _COLUMN * count + 0.5 * (np.floor(row) % 2.0)
    return _soft(8.0 * (radius - np.hypot((row % 1.0 - 0.5) / 2.0, column % 1.0 - 0.5)))


def checks(count: int, diagonal: bool = False) -> Field:
    """Return a chequerboard, upright or turned by 45 degrees."""
    first, second = (_ROW + _COLUMN, _ROW - _COLUMN) if diagonal else (_ROW, _COLUMN)
    return _soft(4.0 * np.sin(2.0 * np.pi * count * first) * np.sin(2.0 * np.pi * count * second))


def tile_joints(count: int) -> Field:
    """Return the joints of square panels, soft and about 2 % of a panel wide."""
    edge = np.minimum(0.5 - np.abs(_ROW * count % 1.0 - 0.5), 0.5 - np.abs(_COLUMN * count % 1.0 - 0.5))
    return np.exp(-((edge / 0.03) ** 2))


def zigzag(count: int, share: float) -> Field:
    """Return chevrons."""
    fold = np.abs((_COLUMN * count) % 1.0 - 0.5)
    return _soft(np.cos(2.0 * np.pi * (count * _ROW + fold)) - np.cos(np.pi * share))


def floral(rng: np.random.Generator, count: int) -> Field:
    """Return scattered flowers of five or six petals."""
    weight = np.zeros((SIZE, SIZE))
    for _ in range(count):
        row, column = rng.random(2)
        radius = rng.uniform(0.06, 0.13)
        down = (_ROW - row + 0.5) % 1.0 - 0.5
        across = (_COLUMN - column + 0.5) % 1.0 - 0.5
        petals = rng.integers(5, 7)
        shape = radius * (0.65 + 0.35 * np.cos(petals * np.arctan2(down, across) + rng.uniform(0, 6)))
        distance = np.hypot(down, across)
        weight = np.maximum(weight, _soft((shape - distance) * 60.0) - 0.6 * _soft((radius / 4 - distance) * 60.0))
    return weight


def blobs(rng: np.random.Generator, count: int) -> Field:
    """Return rounded cells of `count` random brightnesses (a periodic Voronoi diagram)."""
    points, value = rng.random((count, 2)), rng.random(count)
    down = np.abs(_ROW[:, :1, None] - points[:, 0])
    across = np.abs(_COLUMN[:1, :, None] - points[:, 1])
    distance = np.hypot(np.minimum(down, 1.0 - down), np.minimum(across, 1.0 - across))
    nearest = np.argmin(distance, axis=-1)
    near = np.partition(distance, 1, axis=-1)
    gap = (near[..., 1] - near[..., 0]) * np.sqrt(count)
    return (0.4 + 0.6 * value[nearest]) * np.clip(0.35 + 2.5 * gap, 0.0, 1.0)


def bricks(rng: np.random.Generator, brick: Color, mortar: Color) -> Field:
    """Return a running bond of 12 courses with 4 bricks each."""
    row = _ROW * 12.0
    column = _COLUMN * 4.0 + 0.5 * (np.floor(row) % 2.0)
    shade = rng.uniform(0.78, 1.15, (12, 4))[np.floor(row).astype(int), np.floor(column).astype(int) % 4]
    inside = _soft(40.0 * (0.5 - np.abs(row % 1.0 - 0.5) - 0.09)) * _soft(80.0 * (0.47 - np.abs(column % 1.0 - 0.5)))
    shade = shade + 0.06 * smooth_noise(rng, (16, 16))
    return _blend(np.asarray(mortar), shade[..., None] * np.asarray(brick), inside)


def planks(rng: np.random.Generator, wood: Color, count: int) -> Field:
    """Return boards running down the image, joints staggered, each of its own shade."""
    column = _COLUMN * count
    board = np.floor(column).astype(int)
    row = _ROW * 2.0 + rng.random(count)[board]
    shade = rng.uniform(0.74, 1.12, (count, 2))[board, np.floor(row).astype(int) % 2]
    shade = shade + 0.05 * smooth_noise(rng, (2.0, 24.0))
    seam = np.minimum(np.minimum(column % 1.0, 1.0 - column % 1.0) * SIZE / count, (row % 1.0) * SIZE / 2.0)
    shade = shade * (0.6 + 0.4 * np.clip(seam / 1.5, 0.0, 1.0))
    return shade[..., None] * np.asarray(wood)


def herringbone(rng: np.random.Generator, wood: Color) -> Field:
    """Return parquet of blocks of boards, turned by 90 degrees from block to block."""
    turned = (np.floor(_ROW * 4.0) + np.floor(_COLUMN * 4.0)) % 2.0 == 0.0
    across = np.where(turned, _ROW, _COLUMN) * 16.0
    block = np.floor(_ROW * 4.0).astype(int) * 4 + np.floor(_COLUMN * 4.0).astype(int)
    shade = rng.uniform(0.75, 1.12, (16, 16))[block, np.floor(across).astype(int)]
    shade = shade * np.where(turned, 0.92, 1.0)
    seam = np.minimum(across % 1.0, 1.0 - across % 1.0) * SIZE / 16.0
    shade = (shade + 0.04 * smooth_noise(rng, (10, 10))) * (0.7 + 0.3 * np.clip(seam, 0.0, 1.0))
    return shade[..., None] * np.asarray(wood)


def tiles(rng: np.random.Generator, count: int, even: Color, odd: Color) -> Field:
    """Return square tiles with grout, in two colours that alternate where `count` is even."""
    row, column = _ROW * count, _COLUMN * count
    cell = np.floor(row).astype(int), np.floor(column).astype(int)
    color = np.where(((cell[0] + cell[1]) % 2 == 0)[..., None], np.asarray(even), np.asarray(odd))
    shade = rng.uniform(0.93, 1.04, (count, count))[cell] + 0.012 * smooth_noise(rng, (12, 12))
    edge = np.minimum(0.5 - np.abs(row % 1.0 - 0.5), 0.5 - np.abs(column % 1.0 - 0.5)) * SIZE / count
    return _blend(np.full(3, 0.52), color * shade[..., None], np.clip(edge - 0.5, 0.0, 1.0))


def veins(rng: np.random.Generator, stone: Color, vein: Color) -> Field:
    """Return marble: veins along the zero crossings of noise."""
    field = lattice_noise(rng, 1.6)
    weight = np.exp(-((field / 0.09) ** 2)) * np.clip(0.5 + 0.5 * lattice_noise(rng, 2.0), 0.0, 1.0)
    clouds = 1.0 + 0.04 * lattice_noise(rng, 1.8)
    return _blend(np.asarray(stone) * clouds[..., None], np.asarray(vein), weight)


def rug(rng: np.random.Generator, ground: Color, figure: Color) -> Field:
    """Return a bordered rug with a medallion, symmetric in both directions."""
    down, across = np.abs(_ROW - 0.5) * 2.0, np.abs(_COLUMN - 0.5) * 2.0
    rim = np.maximum(down, across)
    rings = np.cos(rng.uniform(14, 26) * (down ** rng.uniform(1, 2) + across ** rng.uniform(1, 2)))
    weight = _soft(6.0 * rings) * (rim < 0.74)
    weight = np.where((rim > 0.78) & (rim < 0.84), 1.0, weight)
    border = (rim >= 0.84) & (np.cos(40.0 * down) * np.cos(40.0 * across) > 0.2)
    weight = np.where(border, 0.8, weight)
    color = _blend(np.asarray(ground), np.asarray(figure), weight)
    return color * (1.0 + 0.05 * smooth_noise(rng, (20, 20)))[..., None]


def book_spines(rng: np.random.Generator) -> Field:
    """Return a row of about 16 upright spines with title bands on a dark ground."""
    color = np.full((SIZE, SIZE, 3), 0.07)
    left = 0
    while left < SIZE:
        right = min(left + int(rng.integers(5, 12)), SIZE)
        top = int(rng.integers(0, 26))
        spine = np.clip(rng.uniform(0.12, 0.85) + rng.uniform(-0.3, 0.3, 3), 0.05, 0.95)
        color[top:, left : right - 1] = spine
        band = top + int(rng.integers(10, 40))
        color[band : band + int(rng.integers(6, 20)), left : right - 1] = np.clip(
            spine + rng.choice([-0.35, 0.35]), 0, 1
        )
        left = right
    return color


def painting(rng: np.random.Generator) -> Field:
    """Return an abstract painting: overlapping discs and bars on a wash."""
    color = np.clip(rng.uniform(0.3, 0.95, 3) + 0.05 * lattice_noise(rng, 1.8)[..., None], 0.0, 1.0)
    for _ in range(int(rng.integers(5, 10))):
        row, column = rng.random(2)
        if rng.random() < 0.5:
            inside = np.hypot(_ROW - row, _COLUMN - column) < rng.uniform(0.06, 0.28)
        else:
            slope = rng.uniform(0, np.pi)
            inside = np.abs((_ROW - row) * np.cos(slope) + (_COLUMN - column) * np.sin(slope)) < rng.uniform(0.02, 0.1)
        color = _blend(color, rng.uniform(0.05, 1.0, 3), 0.85 * inside)
    return color


def landscape(rng: np.random.Generator) -> Field:
    """Return hills under a sky, with a sun."""
    color = _blend(rng.uniform(0.4, 0.7, 3), np.asarray([0.85, 0.88, 0.95]), _ROW)
    sun = np.hypot(_ROW - rng.uniform(0.12, 0.3), _COLUMN - rng.uniform(0.2, 0.8))
    color = _blend(color, np.asarray([1.0, 0.92, 0.65]), _soft((0.07 - sun) * 80.0))
    for layer in range(4):
        waves = sum(np.sin(2 * np.pi * k * _COLUMN + rng.uniform(0, 6)) / k for k in (1, 2, 5))
        ridge = 0.38 + 0.14 * layer + 0.05 * np.asarray(waves)
        shade = rng.uniform(0.1, 0.5, 3) * np.asarray([0.8, 1.15, 0.8]) * (1.2 - 0.2 * layer)
        color = _blend(color, shade, _soft((_ROW - ridge) * 90.0))
    return color


def sky(rng: np.random.Generator, buildings: bool) -> Field:
    """Return the view out of a window: bright sky with clouds over roofs or trees."""
    clouds = np.clip(0.5 + 0.4 * lattice_noise(rng, 1.8), 0.0, 1.0)
    color = _blend(
        _blend(np.asarray([0.55, 0.74, 0.96]), np.asarray([0.90, 0.95, 1.0]), _ROW), np.ones(3), clouds * 0.8
    )
    if buildings:
        for left in range(0, SIZE, 18):
            height = int(rng.integers(50, 100))
            wall = rng.uniform(0.45, 0.8) + rng.uniform(-0.08, 0.08, 3)
            color[height:, left : left + 16] = wall
            for row in range(height + 5, SIZE - 5, 11):
                color[row : row + 5, left + 3 : left + 6] = wall * 0.5
                color[row : row + 5, left + 10 : left + 13] = wall * 0.5
    trees = 0.78 + 0.05 * smooth_noise(rng, (1e-3, 7.0))[0]
    return _blend(color, np.asarray([0.30, 0.46, 0.24]), _soft((_ROW - trees[None]) * 60.0))


def screen(rng: np.random.Generator) -> Field:
    """Return a dark screen with a slanted reflection."""
    glare = np.exp(-(((_ROW + _COLUMN - rng.uniform(0.6, 1.0)) / 0.18) ** 2))
    return _blend(np.asarray([0.03, 0.03, 0.04]), np.asarray([0.30, 0.33, 0.38]), glare * 0.6)


def clock_face(rng: np.random.Generator) -> Field:
    """Return a dial with hour marks and two hands."""
    down, across = _ROW - 0.5, _COLUMN - 0.5
    radius, angle = np.hypot(down, across), np.arctan2(across, -down)
    hour = np.abs((angle * 12.0 / (2.0 * np.pi) + 0.5) % 1.0 - 0.5)
    ink = (radius > 0.36) & (radius < 0.43) & (hour < 0.12)
    for pointing, length, width in ((rng.uniform(0, 6.28), 0.22, 0.025), (rng.uniform(0, 6.28), 0.34, 0.016)):
        along = across * np.sin(pointing) - down * np.cos(pointing)
        beside = across * np.cos(pointing) + down * np.sin(pointing)
        ink |= (np.abs(beside) < width) & (along > -0.04) & (along < length)
    color = _blend(np.full(3, 0.97), np.full(3, 0.08), ink.astype(np.float64))
    return _blend(color, np.asarray([0.25, 0.2, 0.18]), _soft((radius - 0.46) * 100.0))


def _soft(value: Field) -> Field:
    """Return a smooth step from 0 to 1 around 0."""
    return 1.0 / (1.0 + np.exp(-np.clip(4.0 * value, -30.0, 30.0)))


def _blend(first: Field, second: Field, weight: Field) -> Field:
    """Return colours between `first` and `second` (colours or images) by an (H, W) weight."""
    return first * (1.0 - weight[..., None]) + second * weight[..., None]
