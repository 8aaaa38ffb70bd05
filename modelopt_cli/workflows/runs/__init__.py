"""One experiment as a Run that a search can advance, pause and resume: torch, estimator, folds, subset, script.

Opened through workflows/factory.py; the folders pruning/ and distillation/ build on `base` and `torch`.
"""
