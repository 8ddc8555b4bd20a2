"""Learners: PPO, behaviour cloning and DAgger, with the buffers and data they train from.

In: a policy, vectorised environments or recorded trajectories.
Out: trained weights, checkpoints and learning curves in a run folder.
"""
