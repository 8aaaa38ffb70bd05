"""The search: the loop over a study and workers, its settings, simulation and replay. `search.search` is its face."""
