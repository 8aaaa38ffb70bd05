"""Gaussian processes: the process itself, what a setting promises by it, and the suggestions of `bayesian`.

Loaded only where a process is used. The process and the acquisition may be imported by analysis/ and schedulers/, too.
"""
