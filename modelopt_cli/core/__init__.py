"""What everything else stands on: strategies, errors, seeds, conditions. Imports nothing from the project."""
