"""Run directories, reports and tables: the only writer of files (but for the study's store)."""
