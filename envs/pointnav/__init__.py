"""Point-goal navigation (PointNav): the task, its episodes and its vectorised environments.

In: scenes with walkable grids, PointNav-v1 episode files, actions of N agents.
Out: observations, rewards, Habitat's measures and one record per episode.
`env` is the simulator and task, `vec_env` its SB3 and Gymnasium interfaces, `scene_episodes` joins scenes to episodes.
"""
