"""One trainer and one protocol layer for all benchmarks of `adapt.benchmarks`."""
