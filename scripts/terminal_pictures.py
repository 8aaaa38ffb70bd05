"""Pictures of what every command prints: at 80 and 120 columns, on a dark and on a light terminal.

Runs the commands in a temporary folder, on bundled data, in a pseudo-terminal, and keeps what is left on its screen:

    .venv/bin/python scripts/terminal_pictures.py --out pictures [--only 'tune*'] [--widths 80 120]

In the folder then lies NAME-WIDTH.txt (with escape sequences, for `less -R`) and NAME-WIDTH-dark.png and -light.png
(by chromium without a window; without chromium, the pages). Takes some minutes; needs nothing from a network.
"""

from __future__ import annotations

import argparse
import fcntl
import html
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PROGRAM = [sys.executable, "-c", "import sys; sys.argv[0] = 'modelopt'; from modelopt_cli.cli.main import main; main()"]
LONGEST = 300  # seconds of a command
LETTER, LINE = 8.43, 18  # pixels of a cell at 14 pixels

_COLOURS = [
    (46, 52, 54), (204, 0, 0), (78, 154, 6), (196, 160, 0), (52, 101, 164), (117, 80, 123), (6, 152, 154),
    (211, 215, 207),
]  # fmt: skip
_BRIGHT = [
    (85, 87, 83), (239, 41, 41), (138, 226, 52), (252, 233, 79), (114, 159, 207), (173, 127, 168), (52, 226, 226),
    (238, 238, 236),
]  # fmt: skip
THEMES = {
    "dark": TerminalTheme((30, 30, 30), (220, 220, 220), _COLOURS, _BRIGHT),
    "light": TerminalTheme((255, 255, 255), (23, 20, 33), _COLOURS, _BRIGHT),
}
"""GNOME's colours: neither the brightest nor the darkest yellow that terminals have."""


class Scene(NamedTuple):
    """A command as typed after `modelopt`. `before`: a command that is run first, and not shown."""

    name: str
    arguments: str
    answer: str = ""  # what is typed at a question


SCENES = [
    Scene("help", "--help"),
    *(Scene(f"help-{name}", f"{name} --help") for name in (
        "tune", "train", "prune", "distill", "inspect", "export", "evaluate", "predict", "validate", "init", "list",
        "compress", "schema", "runs", "show", "replay", "clean", "report", "plot", "compare", "watch")),
    Scene("version", "--version"),
    Scene("no-runs", "runs"),
    Scene("init", "init"),
    Scene("init-template", "init digits_prune"),
    Scene("init-unknown", "init digit_mlp"),
    Scene("list", "list"),
    Scene("list-family", "list samplers"),
    Scene("validate", "validate train.yaml tune.yaml weights.yaml distill.yaml"),
    Scene("validate-errors", "validate wrong.yaml"),
    Scene("error-no-file", "train nowhere.yaml"),
    Scene("error-option", "train train.yaml --epochs 3"),
    Scene("error-command", "trian"),
    Scene("error-value", "tune tune.yaml --trials 0"),
    Scene("error-set", "train train.yaml --set training.epoch=3"),
    Scene("train-plan", "train train.yaml --dry-run"),
    Scene("train", "train train.yaml"),
    Scene("train-quiet", "train train.yaml -q"),
    Scene("train-gate", "train train.yaml --gate 'test.accuracy >= 0.999' --set training.epochs=2"),
    Scene("train-seeds", "train train.yaml --set seeds=2 --set name=seeds"),
    Scene("train-trees", "train trees.yaml"),
    Scene("train-failed", "train failing.yaml"),
    Scene("tune-plan", "tune tune.yaml --dry-run"),
    Scene("tune", "tune tune.yaml"),
    Scene("tune-quiet", "tune tune.yaml -q"),
    Scene("tune-stopped", "tune stopped.yaml"),
    Scene("tune-script", "tune script.yaml"),
    Scene("tune-front", "tune front.yaml"),
    Scene("tune-choice", "tune choice.yaml"),
    Scene("prune-plan", "prune weights.yaml --dry-run"),
    Scene("prune-weights", "prune weights.yaml"),
    Scene("prune-neurons", "prune neurons.yaml"),
    Scene("prune-file-plan", "prune runs/train/1/model.pt --threshold 0.05 --dry-run"),
    Scene("prune-file", "prune runs/train/1/model.pt --threshold 0.05 --out pruned.pt --force"),
    Scene("prune-file-judged", "prune runs/train/1/model.pt --amount 0.5 --experiment train.yaml --out j.pt --force"),
    Scene("prune-error", "prune runs/train/1/model.pt"),
    Scene("distill-plan", "distill distill.yaml --dry-run"),
    Scene("distill", "distill distill.yaml"),
    Scene("compress-plan", "compress compress.yaml --dry-run"),
    Scene("compress", "compress compress.yaml"),
    Scene("evaluate", "evaluate runs/train/1/model.pt"),
    Scene("evaluate-gate", "evaluate runs/train/1/model.pt --gate 'test.accuracy >= 0.999'"),
    Scene("export", "export runs/train/1/model.pt small.pt2 --force"),
    Scene("inspect", "inspect runs/train/1/model.pt"),
    Scene("inspect-measured", "inspect runs/train/1/model.pt --measure"),
    Scene("inspect-groups", "inspect runs/train/1/model.pt --groups"),
    Scene("predict-error", "predict runs/train/1/model.pt nowhere.csv"),
    Scene("replay", "replay tune"),
    Scene("show", "show tune"),
    Scene("show-unknown", "show tine"),
    Scene("runs", "runs"),
    Scene("clean", "clean script", "n\n"),
    Scene("clean-nothing", "clean tune --keep 9"),
]  # fmt: skip

DATA = "version: 1\nname: {name}\ndata: {{type: digits, splits: {{validation: 0.2, test: 0.2, seed: 0}}}}\n"
MLP = DATA + (
    "model: {{type: mlp, hidden: [32, 16]}}\n"
    "training: {{epochs: 8, batch_size: 64, optimizer: {{type: sgd, lr: 0.05, momentum: 0.9}}, schedule: cosine}}\n"
)
SEARCH = MLP + (
    "tuning:\n  objective: maximize validation.accuracy\n  sampler: tpe\n  trials: 14\n  executor: serial\n  space:\n"
    "    training.optimizer.lr: {{float: [1.0e-4, 1.0], log: true}}\n    training.batch_size: [16, 32, 64, 128]\n"
    "    model.hidden.0: {{int: [16, 256], log: true}}\n"
)
FILES = {
    "train.yaml": MLP,
    "trees.yaml": DATA + (
        "model: {{type: sklearn, estimator: sklearn.ensemble.RandomForestClassifier, n_estimators: 10}}\n"
        "evaluation: {{cv: 3}}\n"
    ),
    "failing.yaml": DATA + "model: {{type: sklearn, estimator: sklearn.svm.NuSVC, nu: 0.99}}\n",
    "wrong.yaml": (
        "version: 1\nname: wrong\ndata: {{type: digit}}\nmodel: {{type: mlp, hiden: [32]}}\n"
        "training: {{epochs: many, optimizer: {{type: sgd, lr: -1}}}}\n"
    ),
    "tune.yaml": SEARCH + 'gates: ["test.accuracy >= 0.5"]\n',
    "choice.yaml": SEARCH.replace("trials: 14", "trials: 6") + (
        "    training.optimizer:\n      choice:\n"
        "        - {{type: sgd, momentum: {{float: [0.0, 0.99]}}}}\n"
        "        - {{type: adamw, weight_decay: {{float: [1.0e-6, 1.0e-1], log: true}}}}\n"
    ),
    "stopped.yaml": SEARCH.replace("  sampler: tpe\n", "  sampler: random\n  stopper: asha\n"),
    "front.yaml": SEARCH.replace(
        "maximize validation.accuracy", "[maximize validation.accuracy, minimize model.parameters]"
    ),
    "script.yaml": (
        'version: 1\nname: {name}\ncommand: {{argv: [python, fit.py, "{{{{lr}}}}"], parameters: {{lr: 0.1}}}}\n'
        "tuning:\n  workflow: command\n  objective: minimize loss\n  sampler: random\n  trials: 5\n"
        "  executor: serial\n  space: {{command.parameters.lr: {{float: [0.0, 1.0]}}}}\n"
    ).replace("{{{{lr}}}}", "{{lr}}"),
    "weights.yaml": MLP + "pruning: {{amount: 0.8, schedule: cubic, recovery: {{epochs: 4}}}}\n"
    + 'gates: ["test.accuracy_drop <= 0.2"]\n',
    "neurons.yaml": MLP + "pruning: {{structure: neurons, amount: 0.4, recovery: {{epochs: 4}}}}\n",
    "compress.yaml": DATA.replace("type: digits", "type: digits, shape: image") + (
        "model: {{type: cnn, channels: [16, 32]}}\n"
        "training: {{epochs: 30, batch_size: 64, optimizer: {{type: adam, lr: 0.02}}, schedule: cosine}}\n"
        "distillation:\n  teacher:\n    model: {{type: cnn, channels: [32, 64]}}\n"
        "    training: {{epochs: 30, batch_size: 64, optimizer: {{type: adam, lr: 0.005}}, schedule: cosine}}\n"
        "pruning:\n  structure: neurons\n  amount: 0.6\n  importance: obs\n  compensation: least_squares\n"
        "  recovery: {{epochs: 10, lr: 0.01, distillation: {{}}}}\n"
        "quantization: {{}}\nexport: {{}}\n"
        'gates: ["validation.accuracy_drop <= 0.02", "model.size_bytes_ratio <= 0.1"]\n'
    ),
    "distill.yaml": MLP + (
        "distillation:\n  teacher:\n    model: {{type: mlp, hidden: [128]}}\n    training: {{epochs: 10}}\n"
        "  losses: [{{type: labels, weight: 0.1}}, {{type: soft_targets, temperature: 4.0, weight: 0.9}}]\n"
    ),
}  # fmt: skip
FIT = """\
import json, sys
rate = float(sys.argv[1])
if rate > 0.7:
    raise SystemExit("the loss is not a number: take a smaller lr")
for step in range(1, 4):
    print(json.dumps({"step": step, "loss": (rate - 0.3) ** 2 + 1 / step}))
"""


def prepare(folder: Path) -> None:
    """Write what the commands are about."""
    for name, text in FILES.items():
        (folder / name).write_text(text.format(name=name.removesuffix(".yaml")), encoding="utf-8")
    (folder / "fit.py").write_text(FIT, encoding="utf-8")


def screen(scene: Scene, folder: Path, width: int) -> tuple[str, int]:
    """What is left on a terminal of `width` columns after the command, and its exit code."""
    import shlex

    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 60, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*PROGRAM, *shlex.split(scene.arguments)],
        cwd=folder, env=environment, stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(inside)
        if scene.answer:
            os.write(terminal, scene.answer.encode())
        output = b"".join(_chunks(terminal))
        code = process.wait(LONGEST)
    os.close(terminal)
    return _settled(output.decode(errors="replace")), code


def _chunks(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the last program has closed the other end
            return
        if not chunk:
            return
        yield chunk


def _settled(output: str) -> str:
    """The lines that stay when a display that was drawn over and over has gone: what moves the cursor is followed."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+|\x1b", output):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b[") and part.endswith("A"):
            row = max(0, row - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r" and (not part.startswith("\x1b[") or part.endswith("m")):
            lines[row] += part
    return "\n".join(lines).rstrip()


def page(text: str, width: int, theme: TerminalTheme, title: str) -> tuple[str, int]:
    """The text as an HTML page, and how many lines it has."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    content = Text.from_ansi(text)
    console.print(content, soft_wrap=True)
    style = "font-family:'DejaVu Sans Mono',monospace;font-size:14px;line-height:18px;margin:12px"
    form = (
        f"<!DOCTYPE html><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<body style='margin:0;background:{{background}};color:{{foreground}}'><pre style=\"{style}\"><code>{{code}}"
        "</code></pre>"
    )
    code = console.export_html(theme=theme, inline_styles=True, code_format=form)
    return code, content.plain.count("\n") + 1


def picture(code: str, lines: int, width: int, path: Path) -> None:
    """Write the page as a PNG; as HTML where there is no chromium."""
    source = path.with_suffix(".html")
    source.write_text(code, encoding="utf-8")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return
    size = f"--window-size={round(LETTER * width) + 30},{LINE * lines + 30}"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size]
    subprocess.run([*command, f"--screenshot={path}", source.resolve().as_uri()], check=True, capture_output=True)
    source.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--only", nargs="*", default=["*"], help="globs of names (what others need is run, too)")
    parser.add_argument("--widths", type=int, nargs="*", default=[80, 120])
    parser.add_argument("--folder", type=Path, help="run here, and keep it: runs that are there need not be made again")
    parser.add_argument("--text", action="store_true", help="no pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = [scene for scene in SCENES if any(fnmatch(scene.name, glob) for glob in arguments.only)]
    with TemporaryDirectory() as temporary:
        for width in arguments.widths:
            folder = arguments.folder or Path(temporary, str(width))
            folder.mkdir(exist_ok=True, parents=True)
            prepare(folder)
            for scene in chosen:
                text, code = screen(scene, folder, width)
                text = f"\x1b[2m$ modelopt {scene.arguments}\x1b[0m\n{text}\n\x1b[2m[exit code {code}]\x1b[0m"
                name = f"{scene.name}-{width}"
                (arguments.out / f"{name}.txt").write_text(text, encoding="utf-8")
                print(f"{name}: exit {code}", flush=True)
                for theme in () if arguments.text else THEMES:
                    content, lines = page(text, width, THEMES[theme], scene.name)
                    picture(content, lines, width, (arguments.out / f"{name}-{theme}.png"))


if __name__ == "__main__":
    main()
