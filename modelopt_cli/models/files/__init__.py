"""Files that hold models: model.pt, state dicts, safetensors, estimators, exported programs; none runs code unasked.

`checkpoints` saves and loads modelopt's own container, `state_files` what users bring, `exporting` what others run.
"""
