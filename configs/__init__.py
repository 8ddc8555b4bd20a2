"""The YAML that Hydra composes, and the one way to read it (`configs.compose`)."""
