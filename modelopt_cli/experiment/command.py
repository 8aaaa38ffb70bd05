"""The `command:` section: any script as an experiment. No shell; placeholders are filled from `parameters`."""

from __future__ import annotations

import math
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count, Items, Positive


class CommandSettings(Settings):
    """A program, its arguments, and the values that a search may change."""

    path_fields: ClassVar[tuple[str, ...]] = ("cwd",)

    argv: Annotated[Items[str], Field(min_length=1)] = Field(
        description="Program and arguments; {name} stands for a parameter, {{ and }} for braces."
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Name -> value for the placeholders.")
    steps: Count | None = Field(
        None, description="The step of a complete run's last report; null: known when the first trials have ended."
    )
    timeout: Positive | None = Field(None, description="Seconds after which the script has failed.")
    pause: Literal["suspend", "restart"] = Field(
        "suspend",
        description="What a scheduler's pause does to a script: suspend keeps it in memory, stopped (SIGSTOP); restart "
        "ends it, and begins it again when it is to go on.",
    )
    cwd: str = Field(".", description="Folder that the script starts in, relative to the experiment file's folder.")

    @field_validator("parameters")
    @classmethod
    def _plain_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name, value in parameters.items():
            if not name.isidentifier():
                raise ValueError(f"'{name}' is no name for a placeholder; use letters, digits and _")
            if not _is_plain(value):
                raise ValueError(f"{name} is {value!r}, but must be a finite number, text, true, false, null or a list")
        return parameters

    @model_validator(mode="after")
    def _placeholders_are_parameters(self) -> Self:
        names = {name: word for word in self.argv for name in placeholders(word)}
        for name, word in names.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(
                    f"argv has the placeholder {{{name}}} (in '{word}'), but parameters has no '{name}' "
                    f"(it has: {known}).{did_you_mean(name, self.parameters)} Literal braces are written {{{{ and }}}}"
                )
        for name in self.unused if names else ():
            used = ", ".join(f"{{{each}}}" for each in names)
            raise ValueError(
                f"parameters has '{name}', but argv has no placeholder {{{name}}}, so it would reach no script "
                f"(argv has: {used}).{did_you_mean(name, names)} Remove it, or write {{{name}}} into argv"
            )
        return self

    @property
    def unused(self) -> tuple[str, ...]:
        """Parameters that no placeholder of argv stands for. (None of an argv without any is an error.)"""
        names = {name for word in self.argv for name in placeholders(word)}
        return tuple(name for name in self.parameters if name not in names)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def placeholders(word: str) -> list[str]:
    """The names in `{name}` placeholders. Raises ValueError for a lone brace and for formats such as {lr:.3f}."""
    try:
        parts = list(Formatter().parse(word))
    except ValueError:
        raise ValueError(f"argv: '{word}' has a single brace; write {{{{ or }}}} for a literal one") from None
    names = []
    for _, name, format_spec, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or format_spec or conversion:
            raise ValueError(
                f"argv: the placeholder {{{name}{'!' + conversion if conversion else ''}"
                f"{':' + format_spec if format_spec else ''}}} in '{word}' is no plain name; write {{name}}, "
                "or {{ and }} for literal braces"
            )
        names.append(name)
    return names
