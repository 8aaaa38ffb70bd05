"""The `tuning.fidelity` section: trials train on growing shares of the train split before they train on all of it.

A step is then the least share, and counts samples: with the shares 1/9, 1/3 and 1 a run reports at steps 1, 3 and 9,
so that what reckons in steps (rungs a factor apart, the logarithm of the step, budgets) needs to know nothing else
than that each size is trained from the start.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelopt_cli.core.strategy import Settings

_SLACK = 1e-9  # so that 0.1 is a tenth


class Fidelity(Settings):
    """From how small a share of the train split, in which strides, and of which samples."""

    least: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1, description="The least share of the train split that is worth training on."
    )
    factor: Annotated[int, Field(ge=2)] = Field(
        3, description="Each size is so many times the one before: 1, 1 / factor, ... down to `least`."
    )
    take: Literal["drawn", "latest"] = Field(
        "drawn",
        description="drawn: at random, each class by its share; latest: the last ones of the source, for series in "
        "order of time.",
    )

    @model_validator(mode="after")
    def _has_sizes(self) -> Self:
        if self.least * self.factor > 1 + _SLACK:
            raise ValueError(
                f"least is {self.least:g}, so with factor {self.factor} the full size is the only one; "
                f"set least to at most {1 / self.factor:.3g}"
            )
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The steps at which a run reports, ascending; the last is all of the train split."""
        sizes = [1]
        while self.least * sizes[-1] * self.factor <= 1 + _SLACK:
            sizes.append(sizes[-1] * self.factor)
        return tuple(sizes)

    def count(self, samples: int, step: int) -> int:
        """How many of so many training samples a run sees at `step`."""
        return -(-samples * step // self.sizes[-1])
