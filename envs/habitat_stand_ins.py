"""Import Habitat-Lab without habitat-sim: public import path of `envs.habitat.stand_ins`."""

from envs.habitat.stand_ins import MODULES, install, missing

__all__ = ["MODULES", "install", "missing"]
