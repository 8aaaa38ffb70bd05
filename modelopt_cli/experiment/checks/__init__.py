"""What no section of an experiment file can check alone, one theme a file; `file.check` asks all of them.

workflows/ imports metrics.py, to ask again once the data have been read; everything else serves the loading of a file.
"""
