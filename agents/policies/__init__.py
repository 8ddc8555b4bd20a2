"""Navigation policies: observations, feature extractors and actor-critic networks.

In: observations of N agents, features of a frozen base.
Out: action logits and values (`navigation`), frame stacks and cached features (`observations`).
"""
