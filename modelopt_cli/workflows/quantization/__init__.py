"""What quantizing a model needs beside its engine in modelopt_cli: its recovery, its figures, its files."""
