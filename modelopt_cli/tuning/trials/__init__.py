"""Trials: settings of the search space and what came of them; which is better, which failed, which diverged.

Everything in tuning/ may import from here.
"""
