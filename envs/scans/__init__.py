"""Scanned scenes from files: glTF, OBJ and PLY meshes, and Habitat's scene datasets.

In: paths or names of meshes, `*.scene_dataset_config.json`, `*.scene_instance.json`, URDF.
Out: `envs.scene.Scene` (`loading.load_scan`), and scenes by name with their walkable grids (`source`).
"""
