"""Models with weights, and mostly activations, of 8 bits: by which method (methods/), which layers stay in float
(quantizing.py), and training that foresees the rounding (fake.py). onnx/ is what the methods of ONNX Runtime share.

Works on any torch module; knows nothing of pruning and distillation.
"""
