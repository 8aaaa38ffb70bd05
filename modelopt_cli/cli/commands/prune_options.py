"""The options of `modelopt prune` as what they stand for: a pruning of a file, or values of a pruning section."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from modelopt_cli.pruning.allocations import Allocation
    from modelopt_cli.pruning.structures import MaskStructure
    from modelopt_cli.pruning.weights.files import FilePruning


@dataclass(frozen=True)
class PruneOptions:
    """What the command line says, None and empty where it says nothing."""

    threshold: float | None
    amount: float | None
    pattern: str | None
    scope: Literal["layer", "global"] | None
    keep_at_least: float
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    everything: bool
    structure: str | None = None
    importance: str | None = None
    budget: str | None = None

    def check(self) -> None:
        """Raise UsageError, with the value, the rule and the remedy."""
        from modelopt_cli.core.errors import UsageError

        if self.threshold is not None and not 0.0 <= self.threshold < math.inf:
            raise UsageError(f"--threshold {self.threshold:g}: must be a number, 0 or more, e.g. --threshold 0.01")
        if self.amount is not None and not 0.0 <= self.amount < 1.0:
            raise UsageError(f"--amount {self.amount:g}: must be a share from 0 to below 1, e.g. --amount 0.9 for 90%")
        if not 0.0 <= self.keep_at_least < 1.0:
            raise UsageError(
                f"--keep-at-least {self.keep_at_least:g}: must be a share from 0 to below 1, e.g. --keep-at-least 0.02"
            )
        if self.keep_at_least and self.pattern is not None:
            raise UsageError(
                f"--keep-at-least goes with --threshold or --amount; --pattern {self.pattern} says what stays itself"
            )
        if self.pattern is not None:
            self._structure()
            if self.structure is not None:
                raise UsageError(
                    f"--pattern {self.pattern} is a structure itself; leave out --structure {self.structure}"
                )
        if self.budget is not None and not all(self.budget.partition("=")):
            raise UsageError(f"--budget {self.budget}: write what it is about and how much, e.g. --budget flops=50%")
        if len(self.given) > 1:
            raise UsageError(f"{_RULE}; found {' and '.join(f'--{name}' for name in self.given)}")

    @property
    def given(self) -> list[str]:
        """Which of the options that say how much were given."""
        return [name for name in ("threshold", "amount", "pattern", "budget") if getattr(self, name) is not None]

    def pruning(self) -> FilePruning:
        """What to do to a file of weights, by magnitude. Raises UsageError when it is not said how much goes."""
        from modelopt_cli.core.errors import UsageError
        from modelopt_cli.pruning.importances.magnitude import Magnitude
        from modelopt_cli.pruning.weights.files import FilePruning

        self.check()
        for name in ("structure", "importance", "budget"):
            if getattr(self, name) is not None:
                raise UsageError(
                    f"--{name} {getattr(self, name)} needs the model's code and data; name an experiment file whose "
                    "model: and data: sections say them, with --experiment FILE"
                )
        if not self.given:
            raise UsageError(f"{_RULE}; found none of them")
        structure, allocation, target = self._how_much()
        return FilePruning(
            Magnitude(),
            structure,
            allocation,
            target,
            self.keep_at_least,
            include=self.include,
            exclude=self.exclude,
            everything=self.everything,
        )

    def _structure(self) -> MaskStructure:
        from modelopt_cli.workflows.prune_file import pattern

        return pattern(self.pattern or "")

    def _how_much(self) -> tuple[MaskStructure, Allocation | None, float]:
        """What goes, how it is shared out, and the target."""
        from modelopt_cli.pruning.allocations.global_ import Global
        from modelopt_cli.pruning.allocations.threshold import Threshold
        from modelopt_cli.pruning.allocations.uniform import Uniform
        from modelopt_cli.pruning.structures.weights import Weights

        if self.pattern is not None:
            return self._structure(), None, 0.0
        if self.threshold is not None:
            return Weights(), Threshold(), self.threshold
        return Weights(), Uniform() if self.scope == "layer" else Global(), self.amount or 0.0

    def overrides(self) -> list[str]:
        """Values of an experiment's pruning section, as --set takes them. Raises UsageError."""
        self.check()
        values: list[str] = []
        if self.given:
            others = [name for name in ("threshold", "amount", "budget") if name not in self.given]
            values += [f"{name}=null" for name in others]
            values += [f"{name}={getattr(self, name)}" for name in self.given if name not in ("pattern", "budget")]
            values += self._shape()
        if self.budget is not None:
            what, _, value = self.budget.partition("=")
            values.append(f"budget={{{what}: {value}}}")
        for name in ("structure", "importance"):
            if getattr(self, name) is not None:
                values.append(f"{name}={getattr(self, name)}")
        if self.keep_at_least:
            values.append(f"keep_at_least={self.keep_at_least}")
        for name in ("include", "exclude"):
            globs = getattr(self, name)
            values += [f"{name}={json.dumps(list(globs))}"] if globs else []
        if self.everything:
            values.append("all=true")
        return [f"pruning.{value}" for value in values]

    def _shape(self) -> list[str]:
        if self.pattern is not None:
            structure = json.dumps(self._structure().model_dump(mode="json"))
            return [f"structure={structure}", "allocation=null"]
        if self.threshold is not None:
            return ["allocation=null"]
        if self.scope is None:
            return []
        return [f"allocation={'uniform' if self.scope == 'layer' else 'global'}"]


_RULE = "say how much goes by exactly one of --threshold, --amount, --pattern and --budget"
