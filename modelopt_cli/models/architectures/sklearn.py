"""Any scikit-learn estimator, or a pipeline of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from pydantic import ConfigDict, Field, model_validator

from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


@final
class Sklearn(Architecture):
    """Any scikit-learn estimator by dotted path, its arguments beside it; or a pipeline of steps."""

    model_config = ConfigDict(extra="allow")
    path_fields: ClassVar[tuple[str, ...]] = ("folder",)
    framework: ClassVar[Literal["torch", "sklearn"]] = "sklearn"

    estimator: str | None = Field(None, description="E.g. sklearn.ensemble.RandomForestClassifier.")
    folder: str = Field(".", description="Folder to import estimators of your own from, beside the experiment file.")
    arguments: dict[str, Any] = Field(
        {},
        description="More arguments, whose names are taken here: `arguments: {estimator: {estimator: ...}}` is the "
        "estimator inside another one.",
    )
    steps: list[dict[str, Any]] | None = Field(
        None, description="A pipeline: estimators with their arguments, e.g. {estimator: sklearn.svm.SVC, C: 1.0}."
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.estimator is None) == (self.steps is None):
            raise ValueError("a sklearn model needs either estimator (a dotted path) or steps (a list), and not both")
        if self.steps is not None:
            if not self.steps:
                raise ValueError("steps is empty; list at least one estimator")
            for number, step in enumerate(self.steps):
                if not isinstance(step.get("estimator"), str):
                    raise ValueError(f"step {number + 1} needs 'estimator', a dotted path such as sklearn.svm.SVC")
            if self.arguments:
                raise ValueError("'arguments' stands beside steps; write arguments inside a step")
            if self.model_extra:
                raise ValueError(f"'{next(iter(self.model_extra))}' stands beside steps; write arguments inside a step")
        return self

    def check(self) -> None:
        """Import the estimators and check their arguments. Raises UsageError."""
        self._make(None)

    def build(self, shapes: Shapes, seed: int) -> Any:
        """The unfitted estimator; `random_state` is `seed` wherever it is taken and the file does not set it.

        Raises UsageError for a regressor of classes, a classifier of quantities, and what predicts nothing.
        """
        from modelopt_cli.models.architectures._estimators import check_agrees

        estimator = self._make(seed)
        check_agrees(estimator, shapes.task)
        return estimator

    def _make(self, seed: int | None) -> Any:
        from modelopt_cli.models.architectures._estimators import make, make_pipeline

        if self.steps is not None:
            return make_pipeline(self.steps, seed, self.folder)
        spec = {"estimator": self.estimator, "arguments": self.arguments, **(self.model_extra or {})}
        return make(spec, seed, self.folder)
