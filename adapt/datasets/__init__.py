"""Readers of images and labels on disk; none downloads anything."""
