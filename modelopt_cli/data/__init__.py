"""What a file's `data:` section can name (sources/), read, split and prepared for training.

May be imported from here: `prepared`, `preprocessing`, `splits`, `new_data`. The rest reads files and their columns.
"""
