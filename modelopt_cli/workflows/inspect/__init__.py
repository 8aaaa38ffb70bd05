"""Looking at a model: at the weights in its file (weights.py), or at which units stand or fall together (units.py).

Each has `run(path, ...) -> Report`; the commands import these.
"""
