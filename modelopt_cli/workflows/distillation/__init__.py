"""One distillation by an experiment file as a run: jobs, the teachers that are there, criteria, and how all compare.

Import `run.DistillRun`; pruning takes `teachers.given` and `criteria.teacher_criterion`, the workflow `checks` too.
"""
