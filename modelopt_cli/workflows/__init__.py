"""Workflows: one file a command's work. Each has `run(experiment, context)` and returns a Report.

May be imported from here: the commands' modules (train, tune, prune, distill, evaluate, export, ...) and factory.
"""
