"""`modelopt init`: start an experiment file from a template."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN = ("csv", "script", "module", "weights")
_BESIDE = {"script": "train.py", "module": "my_model.py", "weights": "my_model.py"}
"""Template -> the file that it is about, which `--to` writes beside it."""
_WORKFLOWS = ("tuning", "quantization", "pruning", "distillation")
_COMMANDS = {"tuning": "tune", "quantization": "compress", "pruning": "prune", "distillation": "distill"}


def init(
    template: Annotated[
        str | None,
        typer.Argument(metavar="TEMPLATE", help="A template's name; without one they are listed.", show_default=False),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Write FOLDER/experiment.yaml, and beside it an example of the script or model that it is about.",
        ),
    ] = None,
) -> None:
    """Start an experiment file from a template; it goes to standard output, or into a folder.

    Examples:
      modelopt init
      modelopt init digits_mlp > experiment.yaml
      modelopt init script --to my-search
    """
    from modelopt_cli.cli import output
    from modelopt_cli.cli.render import lists
    from modelopt_cli.core.errors import UsageError, did_you_mean

    known = templates()
    if template is None:
        if to is not None:
            raise UsageError(f"--to {to}: name a template to write there, e.g. modelopt init csv --to {to}")
        lists.templates({group: {name: _about(known[name]) for name in names} for group, names in _groups(known)})
        return
    name = template.removesuffix(".yaml")
    if name not in known:
        raise UsageError(f"there is no template '{template}'.{did_you_mean(name, known)} Known: {', '.join(known)}")
    text = known[name].read_text(encoding="utf-8")
    if to is None:
        output.document(text)
    else:
        _write(name, text, known[name].parent / "beside", to)
    _say_next(text, "experiment.yaml" if to is None else str(to / "experiment.yaml"))


def _write(name: str, text: str, beside: Path, folder: Path) -> None:
    """The template and what it is about. Raises UsageError, before anything is written, where a file is there."""
    from modelopt_cli.cli import output
    from modelopt_cli.core.errors import StorageError, UsageError
    from modelopt_cli.results.files import write_text

    contents = {folder / "experiment.yaml": text}
    if name in _BESIDE:
        contents[folder / _BESIDE[name]] = (beside / _BESIDE[name]).read_text(encoding="utf-8")
    for path in contents:
        if path.exists():
            raise UsageError(f"{path} exists; choose another folder, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            write_text(path, content)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror})") from None
    for path in contents:
        output.line(f"wrote {path}")


def _say_next(text: str, file: str) -> None:
    """What to type now, on standard error, so that a redirected template stays a template."""
    sections = {line.partition(":")[0] for line in text.splitlines()}
    workflow = next((_COMMANDS[section] for section in _WORKFLOWS if section in sections), "train")
    said = "\n".join(line.partition("#")[0] for line in text.splitlines())
    edit = "name your file and its column in it, then: " if "path: data.csv" in said else ""
    typer.echo(f"next: {edit}modelopt validate {file}; modelopt {workflow} {file} --dry-run", err=True)


def _groups(known: Mapping[str, Path]) -> list[tuple[str, list[str]]]:
    """What a template starts from -> names."""
    own = [name for name in _OWN if name in known]
    downloads = [name for name, path in known.items() if "${" in path.read_text(encoding="utf-8")]
    bundled = [name for name in known if name not in own and name not in downloads]
    return [
        ("start from something of yours", own),
        ("run as they stand, on bundled data", bundled),
        ("for MNIST and CIFAR-100, which you have", [name for name in downloads if name not in own]),
    ]


def templates() -> dict[str, Path]:
    """Name -> file: those shipped in the package, or configs/ of a source checkout."""
    package = Path(str(files("modelopt_cli")))
    folder = package / "templates"
    folder = folder if folder.is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _about(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line[2:] for line in lines if line.startswith("# ")]
    return next((line for line in comments if not line.startswith("yaml-language-server")), "")
