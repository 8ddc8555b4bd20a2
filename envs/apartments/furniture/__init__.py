"""Procedural furniture."""
