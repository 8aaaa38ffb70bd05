"""The experiment file: from strict YAML to a frozen, validated `experiment.Experiment`.

A text goes through document/ (values and marks), sections.py (each valid by itself) and checks/ (the whole file).
workflows/ imports experiment, expected_metrics, search_space and checks/metrics; packages below import nothing of it.
"""
