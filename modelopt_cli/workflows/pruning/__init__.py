"""One pruning by an experiment file as a Run: its phases, what prunes the model, its snapshots and tables.

May be imported from here: `run.PruneRun`, and `phases` for what is planned. The engines are in modelopt_cli/pruning.
"""
