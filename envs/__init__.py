"""Places to look at: scenes, sensors and the PointNav task."""
