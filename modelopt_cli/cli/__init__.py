"""The command line: one file a command; parse, call, render. render/ is the only importer of rich."""
