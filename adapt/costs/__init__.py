"""Comparison of all methods: cost on every backbone, and accuracy on one small task (`python -m adapt.methods`).

In: names of methods and backbones. Out: rows of numbers, as text, JSON or the table of docs/methods.md.
"""
