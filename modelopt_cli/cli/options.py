"""Arguments and options that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# What a command is about

File = Annotated[Path, typer.Argument(metavar="FILE", help="The experiment file.", show_default=False)]
Weights = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Weights: .pt, .pth, .bin, .safetensors, a folder of safetensors shards, or a model.pt of modelopt.",
        show_default=False,
    ),
]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A model.pt that modelopt wrote.", show_default=False)]
Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's folder, name/number, or a name (its newest run).", show_default=False),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Runs, each a folder, name/number, a name (its newest run), or a report that was saved as JSON.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="NAME", help="The part of the file that holds the weights, where it has several."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the file, e.g. training.epochs=5."),
]

# What it may do

TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Run the code that a model.pt names (a model or data of somebody's own). Only for files whose maker you "
        "trust.",
    ),
]
TrustPickle = Annotated[
    bool,
    typer.Option(
        "--trust-pickle",
        help="Run the code that the file names, e.g. to read a whole pickled module. Only for files whose maker you "
        "trust; never needed for a state dict.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the newest run of this experiment (or the one at --out).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, estimate time and memory, run nothing.")]

# What comes of it

Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for the results; default: runs/NAME/NUMBER.")]
Gate = Annotated[
    list[str] | None,
    typer.Option("--gate", metavar="CONDITION", help='E.g. "test.accuracy >= 0.95"; exit 3 when not met.'),
]
Junit = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Write the gates as JUnit XML, a test case each, for CI to show."),
]
Runtimes = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="Time the model in eager, compiled or onnxruntime; may be repeated: they take turns, and the first gives "
        "model.latency_ms.",
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads to time it with; default 1.")]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option("--batch-size", metavar="N", help="Samples in a timed batch; may be repeated; default 1 and 64."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the result.")]
