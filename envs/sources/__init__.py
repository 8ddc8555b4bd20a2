"""Scene sources, one module per option of the config group ``env``.

In: the settings of ``configs/env/<name>.yaml``, a split, a seed.
Out: scenes with their episodes (`envs.pointnav.scene_episodes`), the rules of the task, the agents' camera, and the
simulator that runs them. `envs.sources.source` says what such a kind is and how another distribution adds one.
"""
