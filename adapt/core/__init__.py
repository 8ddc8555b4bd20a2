"""The frozen base, adaptation methods as a concept, and models that carry many tasks.

In: a network (`base`), the name and settings of a method (`method`), per-layer weight deltas (`deltas`).
Out: `model.Adapted` (wrap, activate, merge, save, load) and what a task costs (`budget`).
"""
