"""The study: the only stateful object of a search, with its event log, its store and its warm start.

`study.Study` is its face; `store.Store` and `header` are for who reads a study's file. Lies below search/ alone.
"""
