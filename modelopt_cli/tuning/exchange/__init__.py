"""Trials of other tools: studies written for Optuna and its dashboard, and read from there.

`optuna_address.py`: where a study of Optuna's lies, as a file names it; `optuna_distributions.py`: parameters as Optuna
has them; `optuna_writing.py` and `optuna_reading.py`: the two ways. All but the first import Optuna (extra `optuna`).
"""
