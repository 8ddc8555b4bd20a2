"""Training frozen bases: Taskonomy's tasks, decoders and losses, and distillation.

In: Taskonomy-layout datasets (`data`), the tasks' scalings and losses (`tasks`, `targets`).
Out: encoders and decoders with their scores beside the best constant prediction (`scores`).
"""
