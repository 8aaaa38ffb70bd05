"""Taps: features read where a module computes them, by its path, without a change in the model's code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle


def resolve(module: nn.Module, patterns: Iterable[str], whose: str) -> list[str]:
    """The paths in `module` that match: each pattern's in the order of definition, patterns in theirs.

    Raises UsageError for a pattern that matches none, with the nearest paths.
    """
    known = [path for path, _ in module.named_modules() if path]
    chosen: list[str] = []
    for pattern in patterns:
        paths = [pattern] if pattern in known else [path for path in known if fnmatchcase(path, pattern)]
        if not paths:
            near = get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:5]
            raise UsageError(
                f"the {whose} has no module '{pattern}'; "
                + (f"the nearest are: {', '.join(near)}" if near else "it has no modules inside, so tap none")
            )
        chosen += [path for path in paths if path not in chosen]
    return chosen


class Taps:
    """Reads the outputs of the modules at `paths` in each forward pass after `open`, until `close`."""

    def __init__(self, module: nn.Module, paths: Sequence[str], whose: str) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self._module, self._whose = module, whose
        self._features: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def open(self) -> None:
        """Begin to read."""
        self.close()
        for path in self.paths:
            self._hooks.append(self._module.get_submodule(path).register_forward_hook(self._reader(path)))

    def close(self) -> None:
        """Stop reading, and forget what was read."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._features = [], {}

    def take(self) -> dict[str, Tensor]:
        """path -> (B, ...) of the last forward pass. Raises UsageError for a module that was not called."""
        missing = [path for path in self.paths if path not in self._features]
        if missing:
            raise UsageError(
                f"the {self._whose}'s module '{missing[0]}' is not called in a forward pass, so it has no features; "
                "tap another module"
            )
        features, self._features = self._features, {}
        return features

    def _reader(self, path: str) -> Callable[[nn.Module, object, object], None]:
        def read(_: nn.Module, __: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if not isinstance(first, torch.Tensor) or not first.is_floating_point() or first.ndim < 2:
                shown = tuple(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
                raise UsageError(
                    f"the {self._whose}'s module '{path}' gives {shown}, which are no features (B, ...) of a batch; "
                    "tap another module"
                )
            self._features[path] = first

        return read
