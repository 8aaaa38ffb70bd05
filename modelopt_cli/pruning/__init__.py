"""Taking weights out of models: what may go (structures), by what (importances), how much where (allocations)."""
