"""A compression: train, distill, prune, recover, quantize one after the other, each the run that it is alone.

stages.py says which there are and what each depends on, stage_cache.py keeps those that are finished, run.py is all of
them as one run; models.py compares the models that they leave. target/ makes one model as small as its drop allows.
"""
