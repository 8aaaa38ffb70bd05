"""The `budget:` of a pruning: what may be left, absolute or as a share."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count

BUDGETS = ("nonzero", "size_bytes", "parameters", "flops", "latency_ms")
OF_MASKS, OF_UNITS = ("nonzero", "size_bytes"), ("size_bytes", "parameters", "flops", "latency_ms")
_PERCENT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")


class Budget(Settings):
    """What may be left, as a number or a share of what there was; exactly one of them."""

    nonzero: int | float | str | None = Field(
        None, description="Weights that are not 0, of all parameters: 5000, or 5%. For structures that set zeros."
    )
    size_bytes: int | float | str | None = Field(
        None,
        description="Size of model.pt: 100000 (bytes), or 10% of the dense model's; compressed, where zeros are set.",
    )
    parameters: int | float | str | None = Field(None, description="Parameters: 5000, or 5%. For neurons.")
    flops: int | float | str | None = Field(
        None, description="Floating-point operations for a sample (2 per multiply-accumulate), or 50%. For neurons."
    )
    latency_ms: int | float | str | None = Field(
        None, description="Milliseconds for a batch of latency_batch on one thread, or 50%. For neurons."
    )
    latency_batch: Count = Field(1, description="Samples in the batch that latency_ms is about.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a budget names exactly one of {', '.join(BUDGETS)}; found {' and '.join(given) or 'none of them'}, "
                "e.g. budget: {parameters: 50%}"
            )
        return self

    @field_validator(*BUDGETS)
    @classmethod
    def _number_or_share(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, str) and not (_PERCENT.match(value) and 0 < float(_PERCENT.sub(r"\1", value)) <= 100):
            raise ValueError(f"'{value}' is no budget; write a number, or a share such as 10%")
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"a budget of {value:g} leaves nothing; write a number above 0")
        return value

    @property
    def of(self) -> str:
        """What it is about: one of BUDGETS."""
        return next(name for name in BUDGETS if getattr(self, name) is not None)

    @property
    def written(self) -> str:
        """The value as the file has it."""
        return str(getattr(self, self.of))

    def described(self, most: float, unit: str = "") -> str:
        """The value as the file has it, and what that is of what there was."""
        share = isinstance(getattr(self, self.of), str)
        return f"{self.written} ({most:,.6g}{unit})" if share else f"{self.written}{unit}"

    def left(self, dense: float) -> float:
        """What may be left of what there was."""
        value = getattr(self, self.of)
        return float(_PERCENT.sub(r"\1", value)) / 100.0 * dense if isinstance(value, str) else float(value)
