"""What `modelopt compare` needs: runs read again, the settings that differ, and which differences are no noise.

Public here: `ComparedRun` and `opened` (runs.py), `differing_settings` (settings.py), `data_warnings` (same_data.py),
`higher_is_better` (directions.py), `judged` (differences.py).
"""
