"""Procedural apartments: floor plan, building, furniture, textures, light and labels from one seed.

In: a seed and the split's settings.
Out: `envs.scene.Scene` (`generator.make_apartment`), with semantic classes and room kinds.
"""
