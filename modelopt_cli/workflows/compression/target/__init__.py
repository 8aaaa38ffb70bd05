"""The smallest or fastest model that a given one can be made into: what is demanded, the search for it, its tries."""
