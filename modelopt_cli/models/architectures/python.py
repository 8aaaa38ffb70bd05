"""Models from the user's own code."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, final

from pydantic import Field

from modelopt_cli.core.consent import Code
from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.imports import Target, describe_user_error, load_target
from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


@final
class Python(Architecture):
    """Any nn.Module: an import path to a callable that returns it.

    It may give a tensor, or a dictionary, tuple or object in which the logits can be told.
    """

    path_fields: ClassVar[tuple[str, ...]] = ("folder",)
    is_trained: ClassVar[bool | None] = None

    target: Target = Field(description="module:callable, e.g. my_package.models:build.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the callable.")
    folder: str = Field(".", description="Folder to import from; relative to the experiment file.")

    def code(self) -> Code:
        """The target."""
        return Code(self.target, self.arguments, self.folder)

    def check(self) -> None:
        """Import the target and compare the arguments with its signature. Raises UsageError."""
        self._arguments(load_target(self.target, self.folder), None, 0)

    def build(self, shapes: Shapes, seed: int) -> Any:
        """What the callable returns, given `arguments`; `shapes`, `inputs`, `outputs` and `seed` where it takes them.

        Raises UsageError, with the file and line in the user's code, when it fails or returns no nn.Module.
        """
        from torch import nn

        from modelopt_cli.models.outputs import one_tensor

        build = load_target(self.target, self.folder)
        arguments = self._arguments(build, shapes, seed)
        try:
            module = build(**arguments)
        except Exception as error:
            raise UsageError(f"model target '{self.target}' failed: {describe_user_error(error)}") from None
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"model target '{self.target}' returned {type(module).__name__}, but must return an nn.Module"
            )
        return one_tensor(module)

    def _arguments(self, build: Any, shapes: Shapes | None, seed: int) -> dict[str, Any]:
        """`arguments` and what of the data's shapes the callable asks for by name."""
        offered: dict[str, Any] = {"shapes": shapes, "seed": seed}
        offered |= {"inputs": shapes.inputs if shapes else None, "outputs": shapes.outputs if shapes else None}
        try:
            signature = inspect.signature(build)
        except (TypeError, ValueError):
            return dict(self.arguments)
        named = {name for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
        arguments = {**{name: value for name, value in offered.items() if name in named}, **self.arguments}
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise UsageError(
                f"model target '{self.target}' cannot be called with its arguments: {error}. It takes {signature}"
            ) from None
        return arguments
