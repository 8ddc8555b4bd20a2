"""The supervised benchmarks, one file each; `adapt.benchmarks.benchmark` says what one is."""
