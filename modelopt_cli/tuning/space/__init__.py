"""The search space: a tree of parameters that knows conditions, rules and priors. `space.Space` is its face.

Lies above trials/ and below everything else in tuning/.
"""
