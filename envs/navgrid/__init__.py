"""Walkable grids: where an agent can stand in a scene, geodesic distances on it, and how it moves.

In: the triangles of a scene, or the polygons of a `.navmesh` file, and the agent's radius, height and climb.
Out: `grid.NavGrid`: snapping, clearance, movement with sliding, geodesic distance fields, the shortest-path follower.
"""
