"""What every method costs on every backbone, and what it learns on one small task: `python -m adapt.methods`.

In: names of methods and backbones. Out: rows of numbers, as text, JSON or the table of docs/methods.md.
"""
