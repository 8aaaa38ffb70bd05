"""Weights set to 0 by masks, in modules and in files of tensors.

May be imported from here: `pruner` joins the strategies, `masking` keeps masks exact in training, `files` works tensor
by tensor, `selection` says which tensors may go.
"""
