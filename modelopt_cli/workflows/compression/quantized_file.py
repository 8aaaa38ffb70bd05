"""The file that the stage quantize leaves beside its model.pt: kept with the stage, or within a trial's checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.files import write_json, write_whole

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.workflows.quantization.run import QuantizeRun

KEY = "quantized"
"""Under which a trial's checkpoint holds it, among its extra values."""
_RECORD, _NETWORK = "quantized.json", "network"


@dataclass(frozen=True)
class QuantizedFile:
    """`network`: takes what the module takes; `file`: the same for raw inputs, which is handed on."""

    suffix: str
    network: bytes
    file: bytes
    tensor_bytes: int

    @classmethod
    def of(cls, run: QuantizeRun) -> QuantizedFile:
        """What a finished run has made."""
        assert run.quantized is not None
        return cls(run.quantized.suffix, run.quantized.content, run.file, run.quantized.size_bytes)

    @cached_property
    def module(self) -> nn.Module:
        """Runs the network's very bytes."""
        from modelopt_cli.quantization.running import running

        return running(self.network, self.suffix)

    def write(self, folder: Path, stem: str) -> Path:
        """The file that is handed on, as `STEM.int8.onnx` or the like."""
        path = folder / f"{stem}.int8{self.suffix}"
        write_whole(path, lambda stream: stream.write(self.file))
        return path

    # As a part of a stage

    def save(self, folder: Path) -> None:
        """Keep it in a stage's folder."""
        write_whole(folder / f"{_NETWORK}{self.suffix}", lambda stream: stream.write(self.network))
        self.write(folder, "model")
        write_json(folder / _RECORD, {"suffix": self.suffix, "tensor_bytes": self.tensor_bytes})

    @classmethod
    def load(cls, folder: Path) -> QuantizedFile | None:
        """What `save` kept; None: the stage has none."""
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            suffix = str(record["suffix"])
            network = (folder / f"{_NETWORK}{suffix}").read_bytes()
            return cls(suffix, network, (folder / f"model.int8{suffix}").read_bytes(), int(record["tensor_bytes"]))
        except FileNotFoundError:
            return None

    # As a part of a checkpoint

    def to_plain(self) -> dict[str, Any]:
        """Plain values and tensors of bytes."""
        import numpy as np
        import torch

        def tensor(content: bytes) -> Any:
            return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())

        return {
            "suffix": self.suffix,
            "network": tensor(self.network),
            "file": tensor(self.file),
            "tensor_bytes": self.tensor_bytes,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> QuantizedFile:
        """What `to_plain` gave."""
        network, file = (plain[name].numpy().tobytes() for name in ("network", "file"))
        return cls(str(plain["suffix"]), network, file, int(plain["tensor_bytes"]))
