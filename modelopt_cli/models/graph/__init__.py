"""A network as a graph of operators whose every dimension has an axis, and what can be taken out of it."""
