"""Training: the loop for torch modules, fitting for scikit-learn estimators, and metrics for both."""
