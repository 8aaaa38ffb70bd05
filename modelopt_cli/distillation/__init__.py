"""Knowledge distillation: a student descends distillation losses of its teacher's outputs and features.

`teacher_criterion`, `moving_average` and `mutual` are the criteria that a training takes; `losses/` has one a file.
"""
