"""Taskonomy labels: the dataset's 2D, 3D and semantic tasks, computed from rendered views.

In: a scene and viewpoints with Taskonomy's camera statistics.
Out: RGB and label images in Taskonomy's folder layout (`dataset`), which `adapt.pretraining` reads.
"""
