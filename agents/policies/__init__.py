"""Navigation policies: what a policy reads, and the networks that choose actions.

In: observations of N agents, features of a frozen base.
Out: action logits and values (`navigation`), frame stacks and cached features (`observations`).
"""
