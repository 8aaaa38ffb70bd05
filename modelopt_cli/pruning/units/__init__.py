"""Units (neurons, channels, heads) taken out of modules: the engine of structured pruning.

May be imported from here: `session` takes units out step by step, `shrink` at once. Behind them `pruner` says which
units go, by masks, and `budget` how many may stay.
"""
