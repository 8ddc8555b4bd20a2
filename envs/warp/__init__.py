"""The simulator on one device: rays by NVIDIA Warp, task logic in Warp kernels, arrays shared with torch.

The same kernels run on a CUDA device and, for tests, on Warp's CPU device. Needs the extra ``cuda`` (warp-lang); only
modules of this package import it.
"""
