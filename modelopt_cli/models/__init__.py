"""What a file's `model:` section can name, and the checkpoints that hold trained ones."""
