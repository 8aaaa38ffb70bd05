"""Taking weights out of models: by what (importances), what goes on its own (structures), how much goes where
(allocations), when (schedules), and how what stays makes up for it (compensations).
"""
