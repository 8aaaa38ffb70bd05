"""How --help looks: words for what is typed, nothing beside a flag, and examples at the end, where the eye is.

Typer says of which Python type a value is (`<path>`, `<bool>`, `{file}`); the words that stand there instead are the
`metavar` of each option and argument. The examples are the end of a command's docstring, under `Examples:`, one a line.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

_MARK = "\n\nExamples:\n"


class _Plain:
    """What a command and the program itself have in common; before Typer's class among the bases."""

    examples: str
    options_metavar: str | None

    def __init__(self, *arguments: Any, help: str | None = None, **options: Any) -> None:
        about, _, self.examples = (help or "").rstrip().partition(_MARK)
        super().__init__(*arguments, help=about, **options)  # type: ignore[call-arg]

    def get_params(self, ctx: Any) -> list[Any]:
        """Options, also --help, and arguments: a flag has no word for a value, and an argument's stands there once."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if each.param_type_name == "argument":
                each.display_type_rich = _no_type
            elif each.is_flag and each.metavar is None:
                each.metavar = ""
        return parameters

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's help, then the examples: never broken, so that they can be copied."""
        super().format_help(ctx, formatter)  # type: ignore[misc]
        if self.examples:
            lines = [f"  {line.strip()}\n" for line in self.examples.splitlines()]
            formatter.write("".join([" Examples:\n", *lines]))


class PlainCommand(_Plain, TyperCommand):
    """A command."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands in the usage line after the name: FILE where it is needed, [FILE] where it may be left out."""
        pieces = [self.options_metavar] if self.options_metavar else []
        for each in self.get_params(ctx):
            if each.param_type_name == "argument":
                pieces.append(each.metavar if each.required else f"[{each.metavar}]")
        return pieces


class PlainGroup(_Plain, TyperGroup):
    """The program."""


def _no_type(ctx: Any) -> str:
    return ""
