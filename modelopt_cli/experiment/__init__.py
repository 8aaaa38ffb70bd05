"""The experiment file: strict YAML to a frozen, validated Experiment."""
