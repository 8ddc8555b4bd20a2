"""Building blocks that several adaptation methods share.

In: layers and weights of a frozen base.
Out: residual adapters, binary masks, merges of base and side features, SVD, copies of weights, and where they go.
"""
