"""Training infrastructure: run folders, distributed ranks, device, atomic files, checkpoints.

In: a composed config and where to write.
Out: a resumable run folder (`run`), ranks joined by torchrun (`distributed`), a torch device (`device`),
files that are written whole or not at all (`files`), guards against numbers that are not finite (`finite`)
and against damaged checkpoints (`state`).
"""
