"""What each ingredient of a compression brings, at equal epochs and trials: digits, MNIST and CIFAR-10 as JPEG, small.

    python scripts/bench/compress_ingredients.py digits --seeds 3 --runs DIR --out FILE
    python scripts/bench/compress_ingredients.py mnist --data ../shared/data --seeds 3 --runs DIR
    python scripts/bench/compress_ingredients.py cifar --data ../shared/data --seeds 3 --runs DIR

Contenders, each a search of the same number of trials by the same sampler:

    alone               a small network, its widths searched, trained on the labels
    distill             the same, taught by the large network
    prune, labels       the large network pruned, recovered on the labels
    prune               the same, recovered with the dense network as the teacher
    prune, int8         and quantised at the end
    one after another   the file's own student, taught; then only its pruning is searched
    joint, labels       student, distillation and pruning searched together; recovered on the labels
    joint               the same, recovered with the student before pruning as the teacher
    joint, int8         and quantised at the end
    from the teacher, int8  the student is the large network once more, and begins with its weights: taught on, pruned,
                        recovered, quantised; its pruning alone is searched

digits is configs/digits_compress.yaml; mnist and cifar (1,000 train images of 14 x 14 and 16 x 16 pixels) have its
space with a CNN of 16, 32 and 64 channels as the teacher. The figure is the hypervolume of validation accuracy and
bytes of the tensors over all trials, from the reference that is named, in accuracy times kilobytes, and in accuracy
times doublings (log2 of the bytes); mean and deviation over seeds. An epoch is one over the train split; a trial's are
those of `training` and recovery together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from tempfile import mkdtemp
from typing import Any

import yaml
from _common import CONFIGS, show, write
from _compress import CONTENDERS, DIGITS_WIDTHS, Mapped, contender, search, spread
from compress_front import figures_of

WIDTHS = {"model.channels.0": [3, 12], "model.channels.1": [4, 24], "model.channels.2": [6, 32]}
HERE = Path(__file__).resolve().parents[3] / "shared" / "data"


def setting(which: str, data: Path, folder: Path, images: int) -> Mapped:
    """The experiment that has everything, of which contenders are made."""
    base: Mapped = yaml.safe_load((CONFIGS / "digits_compress.yaml").read_text(encoding="utf-8"))
    if which == "digits":
        return base
    from _distill import cifar, mnist

    folder.mkdir(parents=True, exist_ok=True)
    if which == "mnist":
        base["data"] = mnist(data / "mnist", folder, images, half=True)
        base["tuning"]["reference"] = [0.85, 20_000]
    else:
        base["data"] = cifar(data / "cifar10" / "cifar10-jpeg.tar.gz", folder, images, 16)
        base["tuning"]["reference"] = [0.25, 20_000]
    base["distillation"]["teacher"]["model"] = {"type": "cnn", "channels": [16, 32, 64]}
    base["model"] = {"type": "cnn", "channels": [12, 24, 48]}
    base["tuning"]["space"]["model.channels"] = {"ordinal": [[8, 16, 32], [12, 24, 48], [16, 32, 64]]}
    base["tuning"]["space"]["pruning.budget.parameters"] = {"int": [800, 15_000], "log": True}
    base["pruning"]["budget"]["parameters"] = 3000
    base["tuning"]["trials"] = 8
    base["training"]["epochs"], base["pruning"]["recovery"]["epochs"] = 6, 6
    base["distillation"]["teacher"]["training"]["epochs"] = 12
    for training in (base["training"], base["distillation"]["teacher"]["training"]):
        training["evaluate_every"] = 6
    return base


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["digits", "mnist", "cifar"])
    parser.add_argument("--data", type=Path, default=HERE, help="folder with mnist/ and cifar10/")
    parser.add_argument("--images", type=int, default=1000, help="of MNIST or CIFAR-10 to train on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, help="of each search; default: 8, for digits the file's")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--runs", type=Path, help="folder that keeps the searches; default: a temporary one")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    given = parser.parse_args()
    folder = (given.runs or Path(mkdtemp())).resolve()
    base = setting(given.which, given.data, folder / "data", given.images)
    widths = DIGITS_WIDTHS if given.which == "digits" else WIDTHS
    goals, reference = base["tuning"]["objective"], base["tuning"]["reference"]
    figures: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for name in given.contenders:
            searched = search(name, contender(name, base, widths), seed, folder / given.which, given.trials)
            figures.append(figures_of(searched, goals, reference))
            print(*(f"{figures[-1][key]}" for key in ("contender", "seed", "hypervolume", "points", "cpu")), flush=True)
    lines = []
    for name in given.contenders:
        own = [row for row in figures if row["contender"] == name]
        best = [max((accuracy for accuracy, _ in row["front"]), default=0.0) for row in own]
        cells = [spread([row[key] for row in own]) for key in ("hypervolume", "hypervolume_log2")]
        points = f"{mean(row['points'] for row in own):.1f}"
        lines.append([name, *cells, spread(best), points, f"{mean(row['cpu'] for row in own):.0f}"])
    epochs = base["training"]["epochs"] + base["pruning"]["recovery"]["epochs"]
    title = (
        f"{given.which}: {given.trials or base['tuning']['trials']} trials of {epochs} epochs, hypervolume from "
        f"accuracy {reference[0]:g} and {reference[1]:,} bytes, {given.seeds} seeds"
    )
    show(title, ["", "accuracy x kB", "accuracy x doublings", "best accuracy", "points", "CPU s"], lines)
    write(given.out, f"compress_ingredients_{given.which}", figures, reference=reference)


if __name__ == "__main__":
    main()
