"""What `modelopt tune` needs around tuning/: the plan, time estimates, the best model, analysis, warm starts.

Imported by workflows/tune.py and the commands that show a search.
"""
