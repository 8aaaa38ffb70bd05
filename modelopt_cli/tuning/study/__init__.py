"""The study: the only stateful object of a search. `study.Study` is its face; its log and store are beside it."""
