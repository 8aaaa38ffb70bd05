"""How far it is from a command to the loop that does its work: stack frames and files of modelopt_cli in between.

python scripts/walks.py [--show]; the frames are those of a real run in this process, from main() to
EpochRunner.run (train, tune), UnitPruner.prune (prune) and the loss's kl (distill), both ends counted. With PYTHONPATH
it measures another tree.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

import modelopt_cli
from modelopt_cli.cli.main import main

ROOT = Path(modelopt_cli.__file__).parent
CONFIGS = ROOT.parent / "configs"
LEARNS = "distillation={teacher: {model: {type: mlp}, training: {epochs: 1}}, losses: [soft_targets]}"
DIGITS = [str(CONFIGS / "digits_mlp.yaml"), "--set", "training.epochs=2"]
WALKS: dict[str, tuple[list[str], str, str]] = {
    # command line, function that is looked for, what its file's path holds
    "train": (["train", *DIGITS], "EpochRunner.run", "training"),
    "tune": (["tune", *DIGITS, "--set", "tuning.executor=serial", "--set", "tuning.trials=2"], "EpochRunner.run", ""),
    "prune": (
        ["prune", *DIGITS, "--set", "pruning={structure: neurons, amount: 0.3}"],
        "UnitPruner.prune",
        "pruning",
    ),
    "distill": (
        ["distill", *DIGITS, "--set", LEARNS],
        "kl",
        "distillation",
    ),
}


class Reached(BaseException):
    """The loop has been reached; `frames`: (file, function) of modelopt_cli from the command on."""

    def __init__(self, frames: list[tuple[str, str]]) -> None:
        super().__init__()
        self.frames = frames


def frames_of(frame: FrameType | None) -> list[tuple[str, str]]:
    """(file, function) of each frame of modelopt_cli, outermost first."""
    stack: list[tuple[str, str]] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            stack.append((str(path.relative_to(ROOT)), frame.f_code.co_qualname))
        frame = frame.f_back
    return stack[::-1]


def walk(arguments: list[str], function: str, folder: str, tune: bool) -> list[tuple[str, str]]:
    """The frames from the command to the first call of `function`; of a search, one that an executor makes."""

    def look(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_qualname == function and folder in code.co_filename:
            frames = frames_of(frame)
            if not tune or any(path.startswith("tuning/executors") for path, _ in frames):
                reached.append(frames)
                sys.setprofile(None)
                raise Reached(frames)

    reached: list[list[tuple[str, str]]] = []
    sys.argv = ["modelopt", *arguments, "--quiet"]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        sys.setprofile(look)
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                main()
        except BaseException as error:  # whatever the house makes of Reached
            if not reached:
                raise error
        finally:
            sys.setprofile(None)
            os.chdir(ROOT.parent)
    return reached[0]


def run() -> None:
    shown = "--show" in sys.argv[1:]
    for name, (arguments, function, folder) in WALKS.items():
        frames = walk(arguments, function, folder, name == "tune")
        print(f"{name:8} {len(frames):3} frames {len({path for path, _ in frames}):3} files")
        for path, called in frames if shown else ():
            print(f"    {path:45} {called}")


if __name__ == "__main__":
    run()
