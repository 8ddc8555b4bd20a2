"""The CPU renderer: RGB, depth, normals and labels of many agents by ray casting with Embree.

In: scenes packed into flat arrays (`packing`), poses of agents, a camera.
Out: images as NumPy arrays (`renderer`), shaded by compiled loops (`shading`).
"""
