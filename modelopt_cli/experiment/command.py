"""The `command:` section: any script as an experiment. No shell; placeholders are filled from `parameters`."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count, Items, Positive
from modelopt_cli.experiment.placeholders import TRIAL_DIR, filled, placeholders


class CommandSettings(Settings):
    """A program, its arguments, and the values that a search may change."""

    path_fields: ClassVar[tuple[str, ...]] = ("cwd",)

    argv: Annotated[Items[str], Field(min_length=1)] = Field(
        description="Program and arguments; {name} stands for a parameter (null leaves the word out), {name?--flag} "
        "for words where it is true, {trial_dir} for a folder of the trial's own, {{ and }} for braces."
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
            if name == TRIAL_DIR:
                raise ValueError(f"'{name}' stands for a folder of the trial's own (docs/scripts.md); use another name")
            if not _is_plain(value):
                raise ValueError(f"{name} is {value!r}, but must be a finite number, text, true, false, null or a list")
        return parameters

    @model_validator(mode="after")
    def _placeholders_are_parameters(self) -> Self:
        names = {each.name: word for each, word in placeholders(self.argv) if each.name != TRIAL_DIR}
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
        self._check_conditions()
        return self

    def _check_conditions(self) -> None:
        """Raise ValueError where a condition asks what is neither true nor false, or no program is left to start."""
        values = {**self.parameters, TRIAL_DIR: ""}
        for each, word in placeholders(self.argv):
            value = values[each.name]
            if each.choice is not None and (each.name == TRIAL_DIR or not isinstance(value, bool | None)):
                what = "a folder" if each.name == TRIAL_DIR else repr(value)
                raise ValueError(
                    f"argv asks whether '{each.name}' is true (in '{word}'), but it is {what}; make it true or false, "
                    f"or write {{{each.name}}} for the value itself"
                )
        if filled(self.argv[:1], values)[:1] in ([], [""]):
            raise ValueError(f"argv begins with '{self.argv[0]}', which comes to nothing here, but must be a program")

    @property
    def unused(self) -> tuple[str, ...]:
        """Parameters that no placeholder of argv stands for. (None of an argv without any is an error.)"""
        names = {each.name for each, _ in placeholders(self.argv)}
        return tuple(name for name in self.parameters if name not in names)

    def words(self, trial_dir: str) -> list[str]:
        """argv with its placeholders filled."""
        return filled(self.argv, {**self.parameters, TRIAL_DIR: trial_dir})


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
