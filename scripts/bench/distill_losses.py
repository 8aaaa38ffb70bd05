"""Every distillation loss on one teacher and one student, equal budgets: which help, which do not.

mnist: 2,000 images, cnn [32, 64] -> cnn [4, 8]. cifar: CIFAR-10 as JPEG, 5,000 images of 16x16, cifar_resnet of depth
8, width 32 -> width 8. One teacher (trained on moved images, and longer) teaches the students of all seeds, which see
the images as they are; a student's start and order of images depend on its seed alone, so differences are taken seed by
seed. Weights are the published ones (the numbers in brackets below), the same for both data sets. Accuracy is that of
the last epoch on the 10,000 test images, in %. With --tune, the loss of which a row is named weighs 1, 0.1 or 0.01
times as much, whichever is best on the 2,000 validation images with seed 0.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _common import write
from _distill import cifar, experiment, mnist

from modelopt_cli.core.errors import TrialError
from modelopt_cli.workflows.distillation.jobs import ALONE, STUDENT
from modelopt_cli.workflows.distillation.run import DistillRun

Loss = dict[str, Any]
HERE = Path(__file__).resolve().parents[3] / "shared" / "data"
TEACHER = "teacher"
FACTORS = (1.0, 0.1, 0.01)
EMPTY: dict[str, list[Any]] = {"accuracy": [], "seconds": []}


def labels(weight: float) -> Loss:
    return {"type": "labels", "weight": weight}


def soft(temperature: float, weight: float = 0.9, **more: Any) -> Loss:
    return {"type": "soft_targets", "temperature": temperature, "weight": weight, **more}


def outputs(warmup: dict[str, Any]) -> dict[str, list[Loss]]:
    """Losses on logits. Hinton et al. and RepDistiller: 0.1 and 0.9; the others beside the labels at weight 1."""
    dkd = {"type": "dkd", "schedule": warmup}
    return {
        **{f"soft_targets T={temperature}": [labels(0.1), soft(temperature)] for temperature in (1, 2, 4, 8, 20)},
        "soft_targets T=4, labels as much": [labels(1), soft(4, 1)],
        "soft_targets T=2, standardize": [labels(0.1), soft(2, 9, standardize=True)],  # [9: Sun et al.]
        "dkd": [labels(1), dkd],  # [alpha 1, beta 8, T 4]
        "dkd T=2, standardize": [labels(1), {**dkd, "weight": 9, "temperature": 2, "standardize": True}],  # [9]
        "dist": [labels(1), {"type": "dist"}],  # [1, 1, T 1: the paper's, for ImageNet]
        "dist T=4": [labels(1), {"type": "dist", "beta": 2, "gamma": 2, "temperature": 4, "weight": 16}],  # [CIFAR-100]
        "ttm": [labels(1), {"type": "ttm", "temperature": 10, "weight": 45}],  # [45, gamma 0.1]
        "wttm": [labels(1), {"type": "wttm", "temperature": 5, "weight": 4}],  # [4, gamma 0.2]
        "mse_logits": [labels(0.1), {"type": "mse_logits", "weight": 0.9}],
    }


def features(taps: list[str], middle: str, last: str, warmup: dict[str, Any]) -> dict[str, Loss]:
    """Losses on features, at RepDistiller's taps and weights; review_kd as in its authors' script."""
    return {
        "fitnets": {"type": "fitnets", "taps": [middle], "weight": 100},
        "attention_transfer": {"type": "attention_transfer", "taps": taps, "weight": 1000},
        "similarity_preserving": {"type": "similarity_preserving", "taps": taps[-1:], "weight": 3000},
        "rkd": {"type": "rkd", "taps": [last], "weight": 1},
        "vid": {"type": "vid", "taps": taps, "weight": 1},
        "crd": {"type": "crd", "taps": [last], "weight": 0.8},
        "nst": {"type": "nst", "taps": taps, "weight": 50},
        "review_kd": {"type": "review_kd", "taps": taps, "weight": 0.6, "schedule": warmup},
    }


def rows(epochs: int, taps: list[str], middle: str, last: str) -> dict[str, list[Loss]]:
    """Name -> losses. Features alone stand beside labels at 1, and with soft targets at 1 and T=4 (RepDistiller)."""
    warmup = {"type": "warmup", "epochs": epochs / 12}  # 20 of 240 epochs
    own = features(taps, middle, last, warmup)
    return {
        **outputs(warmup),
        **{name: [labels(1), loss] for name, loss in own.items()},
        **{f"{name} + soft_targets": [labels(1), soft(4, 1), loss] for name, loss in own.items()},
    }


def setting(which: str, args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, list[Loss]]]:
    """The sections that all rows share, and the rows."""
    epochs = args.epochs
    sgd = {"type": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    training = {
        "epochs": epochs,
        "batch_size": 64,
        "optimizer": {"type": "adam", "lr": 0.002} if which == "mnist" else sgd,
        "schedule": "cosine",
        "evaluate_every": 1000,  # the last epoch alone
    }
    model: dict[str, Any]
    large: dict[str, Any]
    longer = {**training, "epochs": 2 * epochs}
    if which == "mnist":
        data = mnist(args.data / "mnist", folder, args.images or 2000)
        model, large = ({"type": "cnn", "channels": widths, "head": "flatten"} for widths in ([4, 8], [32, 64]))
        augment = [{"type": "jitter", "pixels": 2}]
        places = (["features.3", "features.7"], "features.3", "features.7")
    else:
        data = cifar(args.data / "cifar10" / "cifar10-jpeg.tar.gz", folder, args.images or 5000, 16)
        model, large = ({"type": "cifar_resnet", "depth": 8, "width": width} for width in (8, 32))
        augment = [{"type": "crop", "padding": 2}, {"type": "flip"}]
        places = (["layer1", "layer2", "layer3"], "layer2", "layer3")
    teacher = {"model": large, "training": longer, "augment": augment, "seed": 0}
    return {"data": data, "model": model, "training": training, "teacher": teacher}, rows(epochs, *places)


def learn(
    shared: Mapping[str, Any], losses: list[Loss], seed: int, folder: Path, known: set[str], split: str = "test"
) -> dict[str, dict[str, float]]:
    """Accuracy and CPU seconds an epoch of teacher, student alone and student, but for those known or diverged."""
    distillation = {"teacher": shared["teacher"], "losses": losses}
    made = experiment(shared["data"], shared["model"], shared["training"], distillation, seed)
    run = DistillRun(made, seed=seed, folder=folder, costed=False)
    seconds: dict[str, list[float]] = {}
    try:
        while run.step < run.total:
            start = time.process_time()
            run.advance(run.step + 1)
            seconds.setdefault(run.curve[-1][0], []).append(time.process_time() - start)
    except TrialError as error:
        print(f"  {error}")
    accuracies = {}
    for name, one in run.trained.items():
        if name in known:
            continue
        judged = run.comparison.judge(one, one.kept, split)[f"{split}.accuracy"]
        accuracies[name] = {"accuracy": judged, "seconds": median(seconds[name]) if name in seconds else 0.0}
    return accuracies


def scaled(losses: list[Loss], factor: float) -> list[Loss]:
    """The last one, of which the row is named, weighs `factor` times as much."""
    return [*losses[:-1], {**losses[-1], "weight": losses[-1].get("weight", 1) * factor}]


def tuned(shared: Mapping[str, Any], losses: list[Loss], folder: Path) -> float:
    """The factor that is best on the validation images."""
    accuracy_of = {}
    for factor in FACTORS:
        judged = learn(shared, scaled(losses, factor), 0, folder, {TEACHER, ALONE}, "validation")
        accuracy_of[factor] = judged.get(STUDENT, {}).get("accuracy", 0.0)
    return max(accuracy_of, key=lambda factor: accuracy_of[factor])


def measure(which: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Row -> accuracies and seconds by seed."""
    shared, wanted = setting(which, args, folder)
    figures: dict[str, Any] = {}
    for name, losses in wanted.items():
        if args.only and not any(word in name for word in args.only):
            continue
        if args.tune:
            factor = tuned(shared, losses, folder)
            name, losses = f"{name} x {factor:g}", scaled(losses, factor)
        for seed in range(args.seeds):
            places = {TEACHER: (TEACHER, 0), ALONE: (ALONE, seed), STUDENT: (name, seed)}
            known = {who for who, (row, at) in places.items() if at < len(figures.get(row, EMPTY)["accuracy"])}
            learnt = learn(shared, losses, seed, folder, known)
            for learner in places.keys() - known:
                values = figures.setdefault(places[learner][0], {"accuracy": [], "seconds": []})
                for what in values:
                    values[what].append(learnt.get(learner, {}).get(what))
        print(line(name, figures), flush=True)
    return figures


def line(name: str, figures: Mapping[str, Any]) -> str:
    """A row of the table: accuracy, its difference to the student alone seed by seed, share of the gap, time."""
    own, alone = figures[name]["accuracy"], figures[ALONE]["accuracy"]
    if None in own:
        return f"| `{name}` | diverged with {own.count(None)} of {len(own)} seeds | | | |"
    if name == TEACHER:
        return f"| {name} | {100 * own[0]:.2f} | | | |"
    if name == ALONE:
        return f"| {name} | {_shown(own)} | | | 1 |"
    apart = [one - other for one, other in zip(own, alone, strict=True)]
    gap = figures[TEACHER]["accuracy"][0] - mean(alone)
    cost = median(figures[name]["seconds"]) / median(figures[ALONE]["seconds"])
    return f"| `{name}` | {_shown(own)} | {_shown(apart, '+')} | {100 * mean(apart) / gap:.0f} | {cost:.2f} |"


def _shown(values: list[float], sign: str = "") -> str:
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):{sign}.2f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("which", choices=["mnist", "cifar"])
    parser.add_argument("--data", type=Path, default=HERE, help="folder that holds mnist/ and cifar10/")
    parser.add_argument("--images", type=int, help="train images; default: 2,000 of MNIST, 5,000 of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=10, help="of a student; a teacher has twice as many")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N-1")
    parser.add_argument("--only", nargs="*", help="rows whose names hold one of these words")
    parser.add_argument("--tune", action="store_true", help="weights by the validation images")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    with TemporaryDirectory() as folder:
        figures = measure(args.which, args, Path(folder))
    order = [TEACHER, ALONE, *(name for name in figures if name not in (TEACHER, ALONE))]
    print("| losses | accuracy | against alone | gap closed, % | time of an epoch |\n|---|---|---|---|---|")
    for name in order:
        print(line(name, figures))
    write(args.out, f"distill_losses {args.which}", figures, seeds=args.seeds, epochs=args.epochs)


if __name__ == "__main__":
    main()
