"""Speed benchmarks of simulator, adaptation and learners (`make bench`), for developers.

In: nothing but this machine.
Out: `docs/bench.json` and the table in `docs/bench.md`; each speed stands beside a reference of the same run.
"""
