"""`modelopt init`: start an experiment file from a template."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer


def init(
    template: Annotated[
        str | None, typer.Argument(help="A template's name; without one they are listed.", show_default=False)
    ] = None,
) -> None:
    """Print a template to standard output: modelopt init digits_mlp > experiment.yaml."""
    from modelopt_cli.cli import output
    from modelopt_cli.core.errors import UsageError, did_you_mean

    known = templates()
    if template is None:
        for name, path in known.items():
            output.line(f"{name:<16} {_about(path)}")
        return
    name = template.removesuffix(".yaml")
    if name not in known:
        raise UsageError(f"there is no template '{template}'.{did_you_mean(name, known)} Known: {', '.join(known)}")
    output.document(known[name].read_text())


def templates() -> dict[str, Path]:
    """Name -> file: those shipped in the package, or configs/ of a source checkout."""
    package = Path(str(files("modelopt_cli")))
    folder = package / "templates"
    folder = folder if folder.is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _about(path: Path) -> str:
    comments = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
    return next((line for line in comments if not line.startswith("yaml-language-server")), "")
