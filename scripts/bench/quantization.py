"""Each method of quantization on one trained CNN: accuracy on test, bytes, and latency in turns with the float model.

The model is trained once for each data set and then quantized by every method, as `modelopt compress` does it. Latency
is ONNX Runtime's for files of ONNX (the model in float, too), torch's for those of torchao, one thread.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from _common import show, write

from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.latency import Contender, eager, latency, onnxruntime
from modelopt_cli.models.measure import example
from modelopt_cli.quantization.onnx.float_model import FloatModel
from modelopt_cli.workflows.quantization.run import QuantizeRun
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

METHODS: dict[str, Any] = {
    "static": "static",
    "static, entropy": {"type": "static", "calibration": "entropy"},
    "static, percentile": {"type": "static", "calibration": "percentile"},
    "static, one scale": {"type": "static", "per_channel": False},
    "dynamic": "dynamic",
    "weight_only": "weight_only",
    "dynamic_torch": "dynamic_torch",
}
CNN = {"type": "cnn", "channels": [32, 64, 64]}


def experiment(name: str, mnist: str, epochs: int) -> Experiment:
    """The file, before it says how it is quantized."""
    digits = {"type": "digits", "shape": "image"}
    idx = {"type": "idx", "path": mnist}
    return Experiment.load(
        {
            "data": digits if name == "digits" else idx,
            "model": CNN,
            "training": {"epochs": epochs, "schedule": "cosine"},
            "quantization": {"max_drop": None},
        }
    )


def rows(name: str, mnist: str, epochs: int, seconds: float) -> list[list[Any]]:
    """One a method: name, accuracy on test, its drop, bytes of the network's file and how many times fewer, ms."""
    chosen = experiment(name, mnist, epochs)
    data = data_cache.prepared_data(chosen)
    training = TorchRun(chosen, data, seed=0)
    training.advance(training.total)
    module = training.trainer.module.cpu().eval()
    inputs = example(data.shapes, 64)
    plain = FloatModel(module, inputs[:4], {}).plain
    runs: dict[str, QuantizeRun] = {}
    for method, options in METHODS.items():
        run = QuantizeRun(chosen.with_values({"quantization.method": options}), data, seed=0, module=module)
        run.advance(run.total)
        runs[method] = run
    contenders: dict[str, Contender] = {"float, ONNX Runtime": onnxruntime(plain), "float, torch": eager(module)}
    for method, run in runs.items():
        assert run.quantized is not None
        onnx = run.quantized.suffix == ".onnx"
        contenders[method] = onnxruntime(run.quantized.content) if onnx else eager(run.quantized.module)
    times = {(each.name, each.batch_size): each.median for each in latency(contenders, inputs, seconds=seconds)}
    table: list[list[Any]] = []
    for contender in contenders:
        accuracy, size, drop = None, len(plain), 0.0
        if contender in runs:
            run = runs[contender]
            assert run.quantized is not None
            judged = run.test_metrics()
            accuracy, drop, size = judged["test.accuracy"], judged["test.accuracy_drop"], len(run.quantized.content)
        else:
            accuracy = training.test_metrics()["test.accuracy"]
        row = [name, contender, f"{accuracy:.4f}", f"{drop:+.4f}", size, f"{len(plain) / size:.2f}"]
        table.append([*row, *(f"{times[contender, batch]:.3f}" for batch in (1, 64))])
    return table


def main() -> None:
    """Both data sets; MNIST where its files are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", default=os.environ.get("MNIST", ""))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of measuring, for each batch size")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    columns = ["data", "model", "test accuracy", "drop", "bytes", "times fewer", "ms, batch 1", "ms, batch 64"]
    table = rows("digits", "", 15, given.seconds)
    if given.mnist:
        table += rows("mnist", given.mnist, given.epochs, given.seconds)
    show("quantization", columns, [[str(cell) for cell in row] for row in table])
    write(given.out, "quantization", {"columns": columns, "rows": table})


if __name__ == "__main__":
    main()
