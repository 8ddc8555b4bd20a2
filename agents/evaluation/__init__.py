"""Evaluation: every held-out episode exactly once, and statistics over the records.

In: a policy or another way to act, held-out scenes.
Out: one record per episode (`episodes`), means with confidence intervals clustered by scene (`statistics`).
"""
