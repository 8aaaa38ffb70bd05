"""What pruning of single weights and of units share: cuts, statistics, distances, and what strategies are given.

Lies below the strategies (importances, structures, allocations, ...), which import it; so do weights/ and units/.
"""
