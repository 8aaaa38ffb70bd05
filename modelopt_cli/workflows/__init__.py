"""Workflows: train, tune, command. Each takes an Experiment and a Context and returns a Report."""
