"""Run directories, reports and tables: the only writer of files (but for the study's store).

May be imported from here: `report`, `tables`, `run_directory`, `files.write_whole`, `listing`, `details`.
"""
