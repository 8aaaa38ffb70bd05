"""ResNet-20 on CIFAR-10 as JPEG: accuracy against CPU latency, float and int8; Torch-Pruning, ONNX Runtime beside it.

    python scripts/bench/compress_cifar.py ../shared/bench/prune --peer VENV --files DIR --out FILE

The bench's weights, its counter of operations and its fine-tuning (2 x 10,000 images, SGD 0.02 with momentum, cosine)
for all; only the layers that it lets lose channels do. Contenders at each speedup:

    modelopt            pruned by obs and divergence with least squares, fine-tuned on the labels
    modelopt, taught    the same, fine-tuned with the dense network as the teacher as well as on the labels
    Torch-Pruning       its criterion l2, all layers together, fine-tuned on the labels; in the environment VENV

Each is written as ONNX. modelopt's own quantization makes int8 of its networks, ONNX Runtime's of Torch-Pruning's
files.
Accuracy is that of the files in ONNX Runtime, on the 10,000 test images. Latency is measured at the end, here, of all
files in turns on one thread: median milliseconds of batches of 1 and 64. BENCH_CIFAR and BENCH_CACHE say where the
bench's data are, as its README says. VENV: torch (the same), torch-pruning 1.6.1, onnxruntime, onnx, onnxscript, sympy.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _common import HERE, ONE_THREAD, show, write
from torch import Tensor, nn
from torch.nn import functional

from modelopt_cli.models.files.exporting import exported_bytes
from modelopt_cli.pruning.units.shrink import shrink
from modelopt_cli.quantization.quantizing import quantize
from modelopt_cli.quantization.settings import QuantizationSettings

SIZES = (1, 64)
IMAGES = 10_000  # of an epoch of fine-tuning
TEMPERATURE = 4.0
OURS = ("modelopt", "modelopt, taught")


def pruned(subject: Any, target_macs: float, seed: int, images: int) -> nn.Module:
    """A copy of the dense network with at most so many multiply-accumulates; it sees calibration images alone."""
    model = subject.dense()
    inputs, _ = subject.calibration(images, seed)
    spared = {id(layer) for layer in subject.keep_width(model)}
    pruning = {
        "budget": {"flops": 2.0 * target_macs},
        "importance": {"type": "obs", "damping": 1e-3},
        "allocation": "divergence",
        "compensation": {"type": "least_squares", "damping": 1e-3},
        "calibration": images,
        "exclude": [name for name, layer in model.named_modules() if id(layer) in spared],
    }
    module: nn.Module = shrink(model, inputs, pruning).module.eval()
    return module


def taught(model: nn.Module, teacher: nn.Module, subject: Any, epochs: int, seed: int) -> None:
    """The bench's fine-tuning, image for image and step for step; but half of the loss is what `teacher` says."""
    generator = torch.Generator().manual_seed(seed)
    rate, batch = 0.02, 128
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (IMAGES // batch))
    teacher.eval()
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(subject.train_x), generator=generator)[:IMAGES]
        for start in range(0, IMAGES - batch + 1, batch):
            pick = order[start : start + batch]
            inputs = subject.augment(subject.train_x[pick], generator)
            logits = model(inputs)
            with torch.no_grad():
                soft = functional.log_softmax(teacher(inputs) / TEMPERATURE, 1)
            own = functional.log_softmax(logits / TEMPERATURE, 1)
            said = functional.kl_div(own, soft, reduction="batchmean", log_target=True) * TEMPERATURE**2
            loss = 0.5 * functional.cross_entropy(logits, subject.train_y[pick]) + 0.5 * said
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    model.eval()


def session(content: bytes) -> Callable[[Tensor], Tensor]:
    """The file on one thread of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    opened = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = opened.get_inputs()[0].name
    return lambda inputs: torch.from_numpy(opened.run(None, {name: inputs.numpy()})[0])


def accuracy(ran: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, batch: int = 500) -> float:
    """Percent."""
    hits = 0
    for start in range(0, len(targets), batch):
        hits += int((ran(inputs[start : start + batch]).argmax(1) == targets[start : start + batch]).sum())
    return 100.0 * hits / len(targets)


def ours(common: Any, subject: Any, speedup: float, seed: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Both of modelopt's rows at this speedup; of the dense network, which is not fine-tuned, one."""
    dense = subject.dense()
    macs, _ = common.macs_params(dense, subject.example)
    images, labels = subject.calibration(
        2512, seed
    )  # 512 to calibrate on, 2,000 to judge by which layers stay in float

    def judge(module: nn.Module) -> float:
        return accuracy(module, images[512:], labels[512:]) / 100

    rows = []
    start = time.process_time()
    slim = dense if speedup == 1 else pruned(subject, macs / speedup, seed, given.images)
    seconds = time.process_time() - start
    left, parameters = common.macs_params(slim, subject.example)
    raw = common.accuracy(slim, subject.test_x, subject.test_y)
    for name in OURS[:1] if speedup == 1 else given.contenders:
        model = copy.deepcopy(slim)
        start = time.process_time()
        if speedup > 1 and name == "modelopt":
            sets = (subject.train_x, subject.train_y, given.epochs)
            common.train(model, *sets, lr=0.02, wd=1e-4, seed=seed, images=IMAGES, augment=subject.augment)
        elif speedup > 1:
            taught(model, subject.dense(), subject, given.epochs, seed)
        tuning = time.process_time() - start
        model = model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
        content, _ = exported_bytes(model, subject.example.repeat(2, 1, 1, 1), ".onnx")
        start = time.process_time()
        small = quantize(
            model,
            QuantizationSettings(),
            calibration=images[:512],
            example=subject.example.repeat(2, 1, 1, 1),
            about={},
            judge=judge,
        )
        quantising = time.process_time() - start
        row = {"contender": name, "speedup": speedup, "seed": seed, "reached": macs / left, "parameters": parameters}
        row |= {"raw": raw, "prune_seconds": seconds, "tune_seconds": tuning, "quantize_seconds": quantising}
        for kind, data in (("float", content), ("int8", small.content)):
            file = given.files / f"{name.replace(', ', '-')}-{seed}-{speedup:g}-{kind}.onnx"
            file.write_bytes(data)
            row |= {kind: accuracy(session(data), subject.test_x, subject.test_y)}
            row |= {f"{kind}_file": str(file), f"{kind}_bytes": len(data)}
        row["in_float"] = [layer["layer"] for layer in small.layers if layer["precision"] == "float"]
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def theirs(given: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """What _compress_peer.py reports; nothing without an environment for it."""
    if given.peer is None:
        return []
    folder = given.files / f"peer-{seed}"
    kept = folder / "peer.json"
    if not kept.exists():
        command = [given.peer / "bin" / "python", HERE / "_compress_peer.py", given.bench, "resnet20", folder]
        more = ["--speedups", given.speedups, "--seed", str(seed), "--epochs", str(given.epochs)]
        subprocess.run([*map(str, command), *more], check=True, env={**os.environ, **ONE_THREAD, "PYTHONPATH": ""})
    rows: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
    return [{"contender": "Torch-Pruning", **row} for row in rows]


def timed(rows: list[dict[str, Any]], example: Tensor, runs: int) -> None:
    """Adds the median milliseconds of every file to its row: all files take turns, after five turns of warming up."""
    files = {
        (number, kind): session(Path(row[f"{kind}_file"]).read_bytes())
        for number, row in enumerate(rows)
        for kind in ("float", "int8")
    }
    for size in SIZES:
        inputs = example.repeat(size, 1, 1, 1)
        seconds: dict[tuple[int, str], list[float]] = {key: [] for key in files}
        for turn in range(runs + 5):
            for key, ran in files.items():
                start = time.perf_counter()
                ran(inputs)
                if turn >= 5:
                    seconds[key].append(time.perf_counter() - start)
        for (number, kind), own in seconds.items():
            middle = sorted(own)[len(own) // 2]
            rows[number][f"{kind}_ms_{size}"] = 1000 * middle
            rows[number][f"{kind}_least_ms_{size}"] = 1000 * min(own)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--peer", type=Path, metavar="VENV", help="environment with Torch-Pruning")
    parser.add_argument("--speedups", default="1,1.5,2,3,4")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--contenders", nargs="+", default=list(OURS), choices=OURS, metavar="NAME")
    parser.add_argument("--images", type=int, default=512, help="calibration images of modelopt's pruning")
    parser.add_argument("--runs", type=int, default=50, help="turns of the latency")
    parser.add_argument("--files", type=Path, default=Path("compress-cifar"), help="folder for the ONNX files")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    given = parser.parse_args()
    given.files.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(given.bench))
    import common  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    subject = common.Subject("resnet20")
    rows: list[dict[str, Any]] = []
    for seed in map(int, given.seeds.split(",")):
        kept = given.files / f"ours-{seed}.json"
        if not kept.exists():
            own = [row for each in given.speedups.split(",") for row in ours(common, subject, float(each), seed, given)]
            kept.write_text(json.dumps(own), encoding="utf-8")
        rows += json.loads(kept.read_text(encoding="utf-8")) + theirs(given, seed)
    timed(rows, subject.example, given.runs)
    rows.sort(key=lambda row: (row["seed"], row["speedup"], row["contender"]))
    lines = [
        [
            f"{row['speedup']:g} x, {row['contender']}",
            f"{row['reached']:.2f}",
            *(f"{row[key]:.2f}" for key in ("raw", "float", "int8")),
            *(f"{row[f'{kind}_bytes'] / 1000:.0f}" for kind in ("float", "int8")),
            *(f"{row[f'{kind}_ms_{size}']:.3g}" for size in SIZES for kind in ("float", "int8")),
        ]
        for row in rows
    ]
    columns = ["fewer operations", "reached", "raw", "float", "int8", "kB", "kB int8"]
    columns += [f"ms {size}{kind}" for size in SIZES for kind in ("", " int8")]
    show(f"ResNet-20, CIFAR-10 as JPEG, {given.epochs} x {IMAGES:,} images of fine-tuning", columns, lines)
    write(given.out, "compress_cifar", rows)


if __name__ == "__main__":
    main()
