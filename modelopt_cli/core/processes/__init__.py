"""Processes and signals: programs that leave nothing behind, a family that is killed with its command, Ctrl-C.

To be imported from: supervised.py, family.py, interrupts.py. supervisor.py and watcher.py are programs of their own.
"""
