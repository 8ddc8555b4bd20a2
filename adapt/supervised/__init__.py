"""Supervised multi-task and continual learning: trainer, protocols, results and reports of all benchmarks."""
