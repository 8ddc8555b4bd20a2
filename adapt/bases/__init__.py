"""Bases from elsewhere: released weights of the papers' networks, timm, torchvision, transformers.

In: what stands after the slash in a base's name (`taskonomy/normal`, `timm/vit_tiny_patch16_224`).
Out: a frozen `adapt.core.base.Base`. `adapt.core.base.load_base` finds these modules by name.
"""
