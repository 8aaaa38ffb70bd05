"""One pruning by an experiment file as a Run: its phases, the model while it is pruned, its tables.

`run.PruneRun` is what others open; the pruning itself is in modelopt_cli/pruning.
"""
