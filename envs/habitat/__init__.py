"""Habitat-Lab on either side: its environments for our learners, and our simulator for its code.

In: a Habitat-Lab config and PointNav-v1 episodes.
Out: `vec_env.HabitatVecEnv` (an SB3 `VecEnv` over Habitat-Lab), and the simulator `Sidestep-v0` (`simulator`),
with stand-ins for habitat-sim's modules where it is not installed (`stand_ins`).
"""
