"""From the text of an experiment file to plain values that know where they stand; paths into them, and overrides.

Knows no section by name: what may stand where is handed in as a layout. Imported by the rest of experiment/.
"""
