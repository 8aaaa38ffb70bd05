"""CNNs at half of their operations: how much faster they are on one thread, and which options make them so.

    python scripts/bench/neurons_latency.py [NAME...] [--bench BENCH] [--ways 'WAY;...'] [--profile] [--out FILE]

Dense and pruned take turns, run by run; what is shown is the median over the turns of dense / pruned, in CPU time of
the one thread (the system's part in it, too), which other work on the machine disturbs less than the clock. BENCH is
../shared/bench/prune: with it mnist_cnn and resnet20 are trained networks, pruned as by neurons_prune.py and judged on
10,000 train images that pruning did not see; all others have random weights, from which l2 and uniform take the same
share of every group. Formats: as it comes (NCHW), and channels_last (NHWC). Each is measured in two processes: `kept`
has glibc keep what it has allocated; `plain` is glibc as it is, which gives large maps back and has the system clear
them anew in every pass, the more the larger they are. --profile: operators that take most of the time, kept, batch 64.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _common import HERE, ONE_THREAD, PYTHON, ratio, run, show, verdict, write
from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.architectures import Shapes
from modelopt_cli.models.measure import macs
from modelopt_cli.pruning.units.shrink import shrink
from tests.support.zoo import InvertedResidual, ResNet50, prepare

BATCHES = (1, 64)
GOAL = 1.6
WARM, LEAST, MOST = 3, 7, 2000  # turns
KEPT = {"MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_MMAP_THRESHOLD_": str(1 << 34)}  # bytes
ALLOCATORS = {"kept": KEPT, "plain": {}}
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
COLUMNS = [("kept", f"{form} {size}") for size in BATCHES for form in FORMATS]
COLUMNS += [("plain", f"{form} {BATCHES[-1]}") for form in FORMATS]
HALF, FASTER = {"flops": "50%"}, {"latency_ms": "60%", "latency_batch": BATCHES[-1]}


def _way(budget: dict[str, Any], round_to: int = 1) -> dict[str, Any]:
    return {"budget": budget, "structure": {"type": "neurons", "round_to": round_to}}


WAYS = {
    "half": _way(HALF),
    "half, by 8": _way(HALF, 8),
    "half, by 16": _way(HALF, 16),
    "60% time": _way(FASTER),
    "60% time, by 8": _way(FASTER, 8),
    "60% time, by 16": _way(FASTER, 16),
}
RANDOM = {"importance": "l2", "allocation": "uniform"}
TRAINED = {  # as in neurons_prune.py
    "importance": {"type": "obs", "damping": 1e-3},
    "allocation": "divergence",
    "compensation": {"type": "least_squares", "damping": 1e-3},
}


@dataclass(frozen=True)
class Subject:
    """A network, samples to prune on, and what may be known of its accuracy."""

    module: nn.Module
    inputs: Tensor  # (N, C, H, W)
    pruning: dict[str, Any]
    accuracy: Callable[[nn.Module], float] | None = None


def vgg16(classes: int = 10) -> nn.Module:
    """(B, 3, 32, 32) -> (B, classes). Simonyan and Zisserman's layout D with batch normalization, one linear layer."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, classes))


def mobilenet(classes: int = 10) -> nn.Module:
    """(B, 3, 32, 32) -> (B, classes). Inverted residuals with squeeze-excite, MobileNetV2's widths."""
    shapes = ((32, 16, 1), (16, 24, 1), (24, 24, 1), (24, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 96, 1))
    stem = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    last = [nn.Conv2d(96, 640, 1, bias=False), nn.BatchNorm2d(640), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*stem, *(InvertedResidual(*each) for each in shapes), *last, nn.Linear(640, classes))


def cnn() -> nn.Module:
    """(B, 1, 28, 28) -> (B, 10). That of configs/mnist_cnn_neurons.yaml."""
    from modelopt_cli.models.architectures.cnn import Cnn

    built: nn.Module = Cnn(channels=(32, 64, 64)).build(Shapes((1, 28, 28), 10, "classification"), 0)
    return built


def cifar_resnet() -> nn.Module:
    """(B, 3, 32, 32) -> (B, 10). modelopt's ResNet-20, all its groups, the residual streams among them."""
    from modelopt_cli.models.architectures.cifar_resnet import CifarResnet

    built: nn.Module = CifarResnet().build(Shapes((3, 32, 32), 10, "classification"), 0)
    return built


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "modelopt_cnn": (cnn, (1, 28, 28)),
    "modelopt_cifar_resnet": (cifar_resnet, (3, 32, 32)),
    "vgg16_bn": (vgg16, (3, 32, 32)),
    "mobilenet_v2": (mobilenet, (3, 32, 32)),
    "resnet50": (lambda: ResNet50(64, 1000), (3, 64, 64)),
}
OF_BENCH = ("mnist_cnn", "resnet20")


def subject(name: str) -> Subject:
    """What is pruned and measured under this name."""
    if name in NETWORKS:
        build, shape = NETWORKS[name]
        torch.manual_seed(0)
        return Subject(prepare(build()), torch.randn(BATCHES[-1], *shape), RANDOM)
    import common  # type: ignore[import-not-found]

    subject = common.Subject(name)
    inputs, targets = subject.calibration(12048)
    dense = subject.dense()
    spared = {id(layer) for layer in subject.keep_width(dense)}
    exclude = [each for each, layer in dense.named_modules() if id(layer) in spared]

    def accuracy(module: nn.Module) -> float:
        return float(common.accuracy(copy.deepcopy(module), inputs[2048:], targets[2048:]))

    return Subject(dense, inputs[:2048], {**TRAINED, "calibration": 2048, "exclude": exclude}, accuracy)


def widths(module: nn.Module) -> list[int]:
    """Channels that the convolutions give, in order."""
    return [each.out_channels for each in module.modules() if isinstance(each, nn.Conv2d)]


def pruned(given: Subject, way: str) -> tuple[nn.Module, dict[str, Any]]:
    """The smaller network and what is known of it without a clock."""
    start = time.perf_counter()
    shrunk = shrink(given.module, given.inputs, {**given.pruning, **WAYS[way]})
    seconds = time.perf_counter() - start
    module, one = shrunk.module.eval(), given.inputs[:1]
    fewer = macs(given.module, one)[""] / macs(module, one)[""]
    known = {"fewer_macs": fewer, "widths": widths(module), "prune_seconds": seconds, "warnings": shrunk.warnings}
    return module, {**known, "accuracy": given.accuracy(module) if given.accuracy else None}


def timed(dense: nn.Module, smaller: dict[str, nn.Module], inputs: Tensor, seconds: float) -> dict[str, Any]:
    """way -> "NCHW 64" -> milliseconds of both and dense / pruned, in turns of the two."""
    latencies: dict[str, Any] = {way: {} for way in smaller}
    for form, memory in FORMATS.items():
        own = copy.deepcopy(dense).to(memory_format=memory)  # type: ignore[call-overload]
        for way, module in smaller.items():
            pair = {"dense": own, "pruned": copy.deepcopy(module).to(memory_format=memory)}  # type: ignore[call-overload]
            for size in BATCHES:
                batch = inputs[torch.arange(size) % len(inputs)].to(memory_format=memory)
                times = turns(pair, batch, seconds)
                ms = {name: median(each) for name, each in times.items()}
                faster = ratio(times, "dense", "pruned")
                latencies[way][f"{form} {size}"] = {"ms": ms, "turns": len(times["dense"]), "faster": faster}
    return latencies


@torch.inference_mode()
def turns(pair: dict[str, nn.Module], batch: Tensor, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of CPU time of each in each turn; every second turn goes the other way round."""
    times: dict[str, list[float]] = {name: [] for name in pair}
    order, spent = list(pair), 0.0
    for turn in range(WARM + MOST):
        if turn >= WARM + LEAST and spent > seconds:
            break
        for name in order if turn % 2 else reversed(order):
            start = time.thread_time()
            pair[name](batch)
            took = time.thread_time() - start
            spent += took
            if turn >= WARM:
                times[name].append(1000.0 * took)
    return times


def child(file: Path, seconds: float, profiled: bool) -> None:
    """Time what the parent has saved; its answer goes where that was."""
    torch.set_num_threads(1)
    saved = torch.load(file, weights_only=False)  # written by the parent a moment ago
    times = timed(saved["dense"], saved["smaller"], saved["inputs"], seconds)
    every = {"dense": saved["dense"], **saved["smaller"]} if profiled else {}
    profiles = {way: profile(module, saved["inputs"]) for way, module in every.items()}
    torch.save({"times": times, "profiles": profiles}, file.with_suffix(".found"))


def profile(module: nn.Module, inputs: Tensor, runs: int = 20, most: int = 6) -> list[list[Any]]:
    """[operator, shapes of its first two arguments, milliseconds of a pass (its median)], those that take most time."""
    batch = inputs[torch.arange(BATCHES[-1]) % len(inputs)]
    with torch.inference_mode():
        for _ in range(3):
            module(batch)
        with torch.profiler.profile(record_shapes=True) as profile:
            for _ in range(runs):
                module(batch)
    times: dict[tuple[str, str], list[float]] = {}
    for each in profile.events():
        times.setdefault((each.name, str(each.input_shapes[:2])), []).append(each.self_cpu_time_total / 1000.0)
    rows = sorted((-median(some) * len(some) / runs, *key) for key, some in times.items())
    return [[name, shapes, -seconds] for seconds, name, shapes in rows[:most]]


def measured(name: str, ways: list[str], options: list[str]) -> dict[str, Any]:
    """Everything about one network: way -> figures, allocator by allocator. `options`: for the child."""
    given = subject(name)
    made = {}
    for way in ways:
        try:
            made[way] = pruned(given, way)
        except UsageError as error:  # rounding to 16 leaves nothing of small groups to take
            print(f"{name}, {way}: {error}", file=sys.stderr)
    figures: dict[str, Any] = {way: known for way, (_, known) in made.items()}
    profiles: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "networks.pt"
        smaller = {way: module for way, (module, _) in made.items()}
        torch.save({"dense": given.module, "smaller": smaller, "inputs": given.inputs[: BATCHES[-1]]}, file)
        for allocator, environment in ALLOCATORS.items():
            run([PYTHON, HERE / Path(__file__).name, "--child", file, *options], env={**ONE_THREAD, **environment})
            answer = torch.load(file.with_suffix(".found"), weights_only=False)
            profiles[allocator] = answer["profiles"]
            for way, times in answer["times"].items():
                figures[way][allocator] = times
    dense = given.accuracy(given.module) if given.accuracy else None
    return {"dense_accuracy": dense, "dense_widths": widths(given.module), "ways": figures, "profiles": profiles}


def lines(name: str, figures: dict[str, Any]) -> list[list[str]]:
    """A row for each way."""
    rows = []
    for way, each in figures["ways"].items():
        cells = [f"{each[allocator][column]['faster']:.2f}" for allocator, column in COLUMNS]
        accuracy = "" if each["accuracy"] is None else f"{each['accuracy']:.2f}"
        rows.append([name, way, f"{each['fewer_macs']:.2f}", *cells, accuracy])
    return rows


def goals(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """At batch 64, what half of the operations take of the time before; the least over ways, in both formats."""
    last = BATCHES[-1]
    verdicts = []
    for name, each in figures.items():
        for allocator in ALLOCATORS:
            halves = {way: times[allocator] for way, times in each["ways"].items() if way.startswith("half")}
            if halves:
                faster = {way: min(of[f"{form} {last}"]["faster"] for form in FORMATS) for way, of in halves.items()}
                best = max(faster, key=lambda way: faster[way])
                verdicts.append(verdict(f"{name}, {allocator}, {best}: time", 1.0 / faster[best], 1.0 / GOAL, ""))
    return verdicts


def main() -> None:
    """Prune, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; default: all")
    parser.add_argument("--bench", type=Path, help="the bench with mnist_cnn and resnet20; default: without these")
    parser.add_argument("--ways", type=lambda text: text.split(";"), default=list(WAYS), help=f"of {';'.join(WAYS)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each pair, format and batch size; default 2")
    parser.add_argument("--profile", action="store_true", help="also which operators take the time")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bench:
        sys.path.insert(0, str(given.bench))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.child:
        child(given.child, given.seconds, given.profile)
        return
    known = [*(OF_BENCH if given.bench else ()), *NETWORKS]
    unknown = sorted(set(given.names) - set(known)) + sorted(set(given.ways) - set(WAYS))
    if unknown:
        parser.error(f"there is no {unknown[0]}; choose from {', '.join(known)} and {'; '.join(WAYS)}")
    options = ["--seconds", str(given.seconds), *(["--bench", str(given.bench)] if given.bench else [])]
    options += ["--profile"] if given.profile else []
    figures = {}
    for name in given.names or known:
        figures[name] = measured(name, given.ways, options)
        print("\n".join(" ".join(row) for row in lines(name, figures[name])), file=sys.stderr)  # it takes long
    columns = ["", "", "MACs", *(f"{allocator} {column}" for allocator, column in COLUMNS), "accuracy"]
    show("dense / pruned", columns, [row for name, each in figures.items() for row in lines(name, each)])
    for name, each in figures.items():
        _show_profiles(name, each["profiles"])
    write(given.out, "neurons_latency", figures, goals(figures))


def _show_profiles(name: str, profiles: dict[str, Any]) -> None:
    for allocator, ways in profiles.items():
        for way, rows in ways.items():
            cells = [[each, shapes, f"{milliseconds:.2f}"] for each, shapes, milliseconds in rows]
            show(f"{name}, {way}, {allocator}: ms at batch {BATCHES[-1]}", ["operator", "of", "ms"], cells)


if __name__ == "__main__":
    main()
