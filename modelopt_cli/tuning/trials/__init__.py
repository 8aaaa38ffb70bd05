"""Trials: a setting of the search space and what came of it; which is better, which failed, which diverged.

Lies at the bottom of tuning/, all of which may import from it. Who reads trials otherwise: study/log.py makes them from
events, samplers/_common/history.py makes numbers of them, analysis/finished_trials.py what importances are about.
"""
