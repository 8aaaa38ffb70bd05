"""Quantization by ONNX Runtime: the float model as a graph with named layers, the two quantizers, the running file."""
