"""YAML for ``hydra.searchpath=[pkg://sidestep_example.configs]``."""
