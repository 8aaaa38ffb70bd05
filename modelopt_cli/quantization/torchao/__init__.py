"""Quantization by torchao, of linear layers, as a program of torch (.pt2)."""
