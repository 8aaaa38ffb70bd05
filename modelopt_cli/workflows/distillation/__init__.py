"""One distillation by an experiment file as a Run: teachers, the networks on the way to a student, its tables.

`run.DistillRun` is what others open; losses and teacher outputs are in modelopt_cli/distillation.
"""
