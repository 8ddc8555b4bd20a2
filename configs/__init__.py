"""Configuration: Hydra's YAML, settings dataclasses, registries and the commands' front end."""
