"""How a run's records reach its loggers: each logger has a process of its own, which this one never waits for long.

delivery.py is this process's end, process.py the other one, journal.py what a later process knows of what was logged.
"""
