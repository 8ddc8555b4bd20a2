"""Adaptation of one frozen visual network to many tasks.

`load_base` gives a frozen base, `wrap` puts a task on it by a method's name, `load` reads saved tasks back.
To add a method, see `adapt.core.method`; to add an encoder, `adapt.encoders`.
"""

from adapt.core.base import Base, BlackBoxBase, list_bases, load_base, save_base, with_maps
from adapt.core.budget import Budget
from adapt.core.method import Incompatible, Method, MethodConfig, NotMergeable, get_method, list_methods
from adapt.core.model import Adapted, load, wrap

__all__ = [
    "Adapted",
    "Base",
    "BlackBoxBase",
    "Budget",
    "Incompatible",
    "Method",
    "MethodConfig",
    "NotMergeable",
    "get_method",
    "list_bases",
    "list_methods",
    "load",
    "load_base",
    "save_base",
    "with_maps",
    "wrap",
]
