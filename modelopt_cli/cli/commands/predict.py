"""`modelopt predict`: labels and probabilities for new data."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from modelopt_cli.cli.options import Force, ModelFile, TrustCode
from modelopt_cli.cli.running import brief


def predict(
    model: ModelFile,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="New data: CSV, Parquet, NPZ, NPY, or a folder of images; - reads a CSV from standard input.",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write; default: standard output.")] = None,
    force: Force = False,
    trust_code: TrustCode = False,
) -> None:
    """Predict new data: labels and probabilities (or values) as CSV.

    Examples:
      modelopt predict runs/my-table/1/model.pt new.csv
      modelopt predict model.pt new.parquet --out predicted.csv
      modelopt predict model.pt - < new.csv > predicted.csv
    """
    from modelopt_cli.cli import output
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.core.text import printable
    from modelopt_cli.results.files import write_text
    from modelopt_cli.results.tables import as_csv
    from modelopt_cli.workflows.evaluate import predicted

    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists; choose another file, or overwrite it with --force")
    with output.one_document(), _file(data) as file, brief(f"predicting {data}"):
        table, notes = predicted(model, file, trust_code=trust_code)
        text = as_csv(table)
        if out is None:
            output.document(text)
        else:
            write_text(out, text)
    for note in notes:
        typer.echo(f"note: {printable(note)}", err=True)


@contextmanager
def _file(data: Path) -> Iterator[Path]:
    """`data`; standard input (-), a pipe or a device as a file for as long as it is read, since it is read twice."""
    standard = str(data) in ("-", "/dev/stdin")
    if not standard and not (data.is_fifo() or data.is_char_device()):
        yield data
        return
    with TemporaryDirectory(prefix="modelopt-") as folder:
        file = Path(folder, "standard-input.csv")
        source = contextlib.nullcontext(sys.stdin.buffer) if standard else data.open("rb")
        with source as stream, file.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        yield file
