"""What a file's `model:` section can name (architectures/), the files that hold models (files/), and graphs (graph/).

May be imported from here: all of it; `measure` and `summary` say what a model costs, `modes.evaluating` evaluates one.
"""
