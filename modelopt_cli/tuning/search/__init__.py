"""The search: its loop over a study and workers, the `tuning:` section, simulation on recorded curves, and replay.

`search.Search` runs one; `settings.TuningSettings` is its section. Lies above everything else in tuning/.
"""
