"""What everything else stands on: strategies, errors, seeds, conditions, plain YAML. Imports nothing from the project.

All of it may be imported from everywhere; processes/ holds what has to do with other processes and signals.
"""
