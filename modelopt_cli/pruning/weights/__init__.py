"""Weights set to 0 by masks, in modules and in files of tensors.

`pruner.prune` joins the strategies; `masking` keeps masks exact in training; `files` works tensor by tensor.
"""
