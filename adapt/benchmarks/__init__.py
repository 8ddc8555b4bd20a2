"""Supervised multi-task benchmarks, one file each; their interface is `adapt.benchmarks.benchmark.Benchmark`."""
