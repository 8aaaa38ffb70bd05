"""How fast commands start: CPU time of `modelopt --help` beside a bare Typer program's, and of `modelopt validate`.

CPU time (user + system) of the child process, because wall time on a shared machine says little.
Goals: --help at most 1.3 times the bare program; validate at most 400 ms.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from _common import CONFIGS, MODELOPT, PYTHON, interleave, options, ratio, rows, run, show, verdict, write

HELLO = '''import typer

app = typer.Typer()


@app.command()
def hello(name: str) -> None:
    """Say hello."""
    typer.echo(f"Hello {name}")


app()
'''


def main() -> None:
    args = options(__doc__, repeats=15)
    with TemporaryDirectory() as folder:
        hello = Path(folder, "hello.py")
        hello.write_text(HELLO, encoding="utf-8")
        figures = interleave(
            {
                "modelopt --help": lambda: run([MODELOPT, "--help"]).cpu,
                "bare Typer --help": lambda: run([PYTHON, hello, "--help"]).cpu,
                "modelopt validate": lambda: run([MODELOPT, "validate", CONFIGS / "digits_mlp.yaml"]).cpu,
            },
            args.repeats,
            warm=True,
        )
    columns = ["command", "median ms", "least", "most", "--help / it"]
    show("Start-up, CPU time", columns, rows(figures, "modelopt --help", 0.001))
    goals = [
        verdict("modelopt --help / bare Typer --help", ratio(figures, "modelopt --help", "bare Typer --help"), 1.3),
        verdict("modelopt validate digits_mlp.yaml", 1000 * median(figures["modelopt validate"]), 400, " ms"),
    ]
    write(args.out, "startup", figures, goals)


if __name__ == "__main__":
    main()
