"""The command line: one file a command; parse, call, render. render.py is the only importer of rich."""
