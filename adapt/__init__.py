"""Adaptation of one frozen visual network to many tasks."""

from adapt.base import Base, list_bases, load_base, save_base

__all__ = ["Base", "list_bases", "load_base", "save_base"]
