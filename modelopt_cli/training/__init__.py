"""Training: the loop for torch modules, fitting for scikit-learn estimators, metrics for both.

Import `trainer.Trainer`, `estimators`, `evaluation.evaluate`, `inference.predict`; `settings` imports nothing heavy.
"""
