"""A network as a graph of operators, in which every dimension of every tensor has an axis, and what can be taken out.

`network.Network` is its face: captured (capture.py), analysed by the rules in operators/ (analysis.py), then without
some units of its groups (groups.py, rewriting.py), or in the user's own module (bundles.py, surgery.py). Imported by
pruning/units, models/files and workflows/.
"""
