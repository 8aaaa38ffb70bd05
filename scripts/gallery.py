"""Make docs/gallery.md and its pictures: real runs, their pages in a real browser, and single charts.

Usage: .venv/bin/python scripts/gallery.py [--runs FOLDER]     (about five minutes; needs Chromium and the extra dev)
With --runs, runs that are there already are shown as they are. --only leaves the other pictures as they are.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from modelopt_cli.results.listing import find_run
from modelopt_cli.workflows.show import run_report

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
DIGITS: dict[str, Any] = {
    "version": 1,
    "data": {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [32]},
    "training": {"epochs": 9, "batch_size": 64, "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9}},
}
SPACE = {
    "training.optimizer.lr": {"float": [1e-4, 30.0], "log": True},
    "training.batch_size": [16, 32, 64, 128],
    "model.hidden.0": {"int": [4, 128], "log": True},
    "training.optimizer": {
        "choice": [
            {"type": "sgd", "momentum": {"float": [0.0, 0.99]}},
            {"type": "adamw", "weight_decay": {"float": [1e-6, 1e-1], "log": True}},
        ]
    },
}
ACCURACY = "maximize validation.accuracy"
SEARCH = {
    "objective": "maximize validation.accuracy",
    "sampler": "tpe",
    "stopper": "asha",
    "trials": 60,
    "space": SPACE,
}
FRONT = {"objective": [ACCURACY, "minimize model.parameters"], "trials": 40, "space": SPACE}
GATES = ["test.accuracy >= 0.95"]
COMPRESSION: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "digits_compress.yaml").read_text())
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "search": ("tune", {**DIGITS, "tuning": SEARCH, "gates": GATES}),
    "front": ("tune", {**DIGITS, "tuning": FRONT}),
    "neurons": ("prune", {**yaml.safe_load((ROOT / "configs" / "digits_neurons.yaml").read_text())}),
    "distill": ("distill", {**yaml.safe_load((ROOT / "configs" / "digits_distill.yaml").read_text()), "seeds": 3}),
    "compress": ("compress", {key: value for key, value in COMPRESSION.items() if key != "tuning"}),
    "narrow": ("train", {**DIGITS, "model": {"type": "mlp", "hidden": [8]}, "seeds": 5}),
    "wide": ("train", {**DIGITS, "model": {"type": "mlp", "hidden": [64]}, "seeds": 5}),
}
"""Name -> (command, experiment)."""

PAGES: list[tuple[str, list[str], str, int, int, str]] = [
    ("search", ["search"], "light", 1100, 1500, "A search, on light paper"),
    ("search-dark", ["search"], "dark", 1100, 1500, "The same, on dark paper"),
    ("search-phone", ["search"], "light", 390, 1500, "The same on a telephone"),
    ("front", ["front"], "light", 1100, 1500, "A search with two objectives"),
    ("neurons", ["neurons"], "light", 1100, 1500, "Neurons taken out of a network"),
    ("distill", ["distill"], "dark", 1100, 1500, "A small network that learned from a large one"),
    ("compress", ["compress"], "light", 1100, 1500, "A network made smaller, stage by stage"),
    ("comparison", ["narrow", "wide"], "light", 1100, 1100, "Two runs side by side"),
]
"""(picture, runs, theme, width, height, title) of a page."""

CHARTS = [
    ("search", "parallel"),
    ("search", "curves"),
    ("search", "importance"),
    ("search", "effects"),
    ("front", "front"),
    ("neurons", "layers"),
    ("neurons", "costs"),
    ("distill", "learners"),
    ("compress", "stages"),
    ("wide", "calibration"),
    ("wide", "confusion"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of the runs; by default a temporary one")
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=RUNS, help="draw pictures of these runs alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = (arguments.runs or Path(scratch)).absolute()
        for name, (command, experiment) in RUNS.items():
            compute(root, name, command, experiment)
        PICTURES.mkdir(exist_ok=True)
        for picture, runs, theme, width, height, _ in PAGES:
            if set(runs) & set(arguments.only):
                photograph(page_of(root, runs, Path(scratch)), PICTURES / f"{picture}.png", theme, width, height)
        says = {}
        for name, kind in CHARTS:
            chart = run_report(find_run(name, root)).plot(kind)
            says[name, kind] = f"{chart.title}. {chart.alt}"
            if name in arguments.only:
                save(Image.open(io.BytesIO(chart.render("png", width=560, scale=1.5))), PICTURES / f"{name}-{kind}.png")
    (ROOT / "docs" / "gallery.md").write_text(gallery(says))


def modelopt(root: Path, *words: str) -> None:
    command = [str(Path(sys.executable).parent / "modelopt"), *words]
    done = subprocess.run(command, env={**os.environ, "MODELOPT_RUNS": str(root)}, cwd=root, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}")


def compute(root: Path, name: str, command: str, experiment: dict[str, Any]) -> None:
    if (root / name).is_dir():
        return
    root.mkdir(parents=True, exist_ok=True)
    file = root / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**experiment, "name": name}, sort_keys=False))
    modelopt(root, command, str(file), "--quiet")


def page_of(root: Path, runs: list[str], scratch: Path) -> Path:
    file = scratch / f"{'-'.join(runs)}.html"
    if not file.exists():
        modelopt(root, "report", *runs, "--out", str(file))
    return file


def photograph(page: Path, out: Path, theme: str, width: int, height: int) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown: Any = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
        shown.goto(page.as_uri())
        shown.wait_for_selector("html[data-ready]", timeout=120_000)
        save(Image.open(io.BytesIO(shown.screenshot())), out)
        browser.close()


def save(picture: Image.Image, out: Path) -> None:
    picture.convert("RGB").save(out, optimize=True)
    print(f"{out.relative_to(ROOT)}  {out.stat().st_size / 1000:.0f} kB")


def gallery(says: dict[tuple[str, str], str]) -> str:
    """The text of docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "Every run writes `report.html`, one file that opens without network; `modelopt report RUN...` writes it",
        "again, of several runs side by side. The pictures are of real runs on scikit-learn's digits;",
        "`scripts/gallery.py` makes them.",
        "",
        "A page begins with what came out in words: against which baseline, how sure that is, gates. A click on a",
        "trial, wherever it is drawn, shows its settings, metrics and curve; dragging along an axis of the parallel",
        "coordinates keeps the trials that pass there; a table sorts by the column that is clicked; ◐ turns light and",
        "dark. It prints, fits a telephone, and describes each chart in a sentence for whoever cannot see it.",
        "`report: false` in the file leaves it out; `modelopt watch RUN --serve` shows that of a search under way.",
        "",
    ]
    for picture, _, _, _, _, title in PAGES:
        lines += [f"## {title}", "", f"![{title}: the upper part of its report.html](pictures/{picture}.png)", ""]
    lines += [
        "## Single charts",
        "",
        "`modelopt plot RUN` lists what a run has, `modelopt plot RUN KIND --out x.png` (or .svg, .pdf) draws it; in",
        "Python it is `report.plot(KIND)`.",
        "",
    ]
    for (name, kind), sentence in says.items():
        lines += [f"### {kind}", "", f"![{sentence}](pictures/{name}-{kind}.png)", "", sentence, ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
