"""Simulation: scenes, sensors and the PointNav task."""
