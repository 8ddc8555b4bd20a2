"""Simulation: scenes, sensors and the PointNav task."""

from pathlib import Path

from configs.kernel_cache import empty_if_stale

empty_if_stale(Path(__file__).parent)  # Before any module of the package loads a kernel.
