"""What the `pipeline:` and `export:` sections may hold: the stages of a compression, and the files it ends with."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Items

__all__ = ["STAGES", "ExportSettings", "StageName"]

StageName = Literal["train", "distill", "prune", "recover", "quantize", "export"]
STAGES: tuple[StageName, ...] = get_args(StageName)
"""Every stage, in the order in which they mostly come."""


class ExportSettings(Settings):
    """Files that run without the model's code, which a compression writes beside its model.pt."""

    formats: Items[Literal["onnx", "pt2"]] = Field(
        ("onnx",), description="onnx: for ONNX Runtime and others; pt2: an exported program of torch."
    )
    bare: bool = Field(
        False, description="The network alone, which takes preprocessed inputs; else the files take raw ones."
    )
