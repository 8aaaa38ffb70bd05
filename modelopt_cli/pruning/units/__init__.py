"""Units (neurons, channels, heads) taken out of modules: the engine of structured pruning.

`session` takes units out step by step, `pruner` chooses them, `budget` says how many may stay.
"""
