"""Taking weights or units out of models: by what (importances), what goes on its own (structures), how much goes where
(allocations), when (schedules), and how what stays makes up for it (compensations). The work is in weights/ and units/.

May be imported from here: settings, the section of the file, and what weights/ and units/ name.
"""
