"""What a file's `data:` section can name, split and prepared for training."""
