"""Torch-Pruning, then ONNX Runtime's own quantiser: the rivals of compress_cifar.py, in an environment of their own.

    VENV/bin/python scripts/bench/_compress_peer.py BENCH SUBJECT OUT --speedups 1,1.5,2,3,4 --seed 0 --epochs 2

BENCH is ../shared/bench/prune: its subject, weights, counter of operations, fine-tuning and way of asking Torch-Pruning
are used. For each speedup the network is pruned and fine-tuned, written as ONNX, and quantised as ONNX Runtime's
documentation says: pre-processed, QDQ, int8 weights for each channel, uint8 activations, minima and maxima over 512
train images. OUT gets the files and peer.json: accuracy of the float network in torch, of the int8 file in ONNX
Runtime.
A speedup of 1 is the dense network as it came, neither pruned nor fine-tuned. No modelopt is imported.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def onnx_bytes(module: nn.Module, example: torch.Tensor) -> bytes:
    """The network as an ONNX file that takes any batch size."""
    program = torch.onnx.export(
        module.eval(), (example,), dynamo=True, input_names=["x"], dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def quantised(file: Path, out: Path, images: np.ndarray[Any, Any]) -> None:
    """`file` in int8 as `out`, calibrated on these images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[dict[str, Any]] = iter(
                [{"x": images[i : i + 64]} for i in range(0, len(images), 64)]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(file), str(prepared))
    quantize_static(
        str(prepared),
        str(out),
        Images(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    prepared.unlink()


def accuracy(file: Path, inputs: torch.Tensor, targets: torch.Tensor, batch: int = 500) -> float:
    """Percent that the file gets right in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    hits = 0
    for start in range(0, len(targets), batch):
        x, y = inputs[start : start + batch], targets[start : start + batch]
        hits += int((session.run(None, {"x": x.numpy()})[0].argmax(1) == y.numpy()).sum())
    return 100.0 * hits / len(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("subject", choices=["resnet20", "mnist_cnn"])
    parser.add_argument("out", type=Path, help="folder for the files")
    parser.add_argument("--speedups", default="1,1.5,2,3,4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--criterion", default="l2", help="Torch-Pruning's; l2 and taylor are its best ones here")
    given = parser.parse_args()
    sys.path.insert(0, str(given.bench))
    import common  # type: ignore[import-not-found]
    import tools  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    given.out.mkdir(parents=True, exist_ok=True)
    subject = common.Subject(given.subject)
    dense = subject.dense()
    macs, _ = common.macs_params(dense, subject.example)
    images, _ = subject.calibration(512, given.seed)
    rows: list[dict[str, Any]] = []
    for speedup in map(float, given.speedups.split(",")):
        start = time.process_time()
        model = subject.dense()
        if speedup > 1:
            model = tools.torch_pruning(model, subject, macs / speedup, given.seed, criterion=given.criterion)
        pruned = time.process_time() - start
        left, parameters = common.macs_params(model, subject.example)
        raw = common.accuracy(model, subject.test_x, subject.test_y)
        if speedup > 1:
            common.train(
                model,
                subject.train_x,
                subject.train_y,
                given.epochs,
                lr=0.02 if given.subject == "resnet20" else 0.01,
                wd=1e-4,
                seed=given.seed,
                images=10000,
                augment=subject.augment,
            )
        tuned = common.accuracy(model, subject.test_x, subject.test_y)
        file, int8 = (given.out / f"peer-{given.seed}-{speedup:g}-{kind}.onnx" for kind in ("float", "int8"))
        file.write_bytes(
            onnx_bytes(model.to(memory_format=torch.contiguous_format), subject.example.repeat(2, 1, 1, 1))
        )
        start = time.process_time()
        quantised(file, int8, images.numpy())
        seconds = time.process_time() - start
        row = {"speedup": speedup, "seed": given.seed, "reached": macs / left, "parameters": parameters, "raw": raw}
        row |= {"float": tuned, "int8": accuracy(int8, subject.test_x, subject.test_y)}
        row |= {"float_file": str(file), "int8_file": str(int8), "float_bytes": file.stat().st_size}
        row |= {"int8_bytes": int8.stat().st_size, "prune_seconds": pruned, "quantize_seconds": seconds}
        rows.append(row)
        print(json.dumps(row), flush=True)
    (given.out / "peer.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
