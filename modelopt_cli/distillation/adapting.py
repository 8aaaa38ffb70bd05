"""A teacher in the student's place: it takes what the student takes, and answers in the student's units.

Models of other runs have other statistics of preprocessing, and scikit-learn's take rows of raw numbers. What lies
between is affine, so the student's inputs are brought into the teacher's form, and its values back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.data.raw import Task
    from modelopt_cli.models.files.checkpoints import Checkpoint

Array = np.ndarray[Any, Any]
Statistics = tuple[Array, Array]
"""(C,) means and (C,) deviations."""

_LEAST = 1e-7  # probability that a scikit-learn classifier's zeros count as: float32 keeps 1 - 1e-7 below 1


class Affine(nn.Module):
    """x * scale + shift, along axis 1 (the last one of sequences)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Array, shift: Array, dimensions: int, precision: torch.dtype = torch.float32) -> None:
        """`scale`, `shift`: (C,); `dimensions`: of a batch. For images and numbers C is axis 1, else the last.

        `precision`: that is computed in; float64 to and from raw numbers, of which float32 keeps 7 digits.
        """
        super().__init__()
        shape = [1] * dimensions
        shape[1 if dimensions in (2, 4) else -1] = -1
        self.register_buffer("scale", torch.as_tensor(scale, dtype=precision).reshape(shape))
        self.register_buffer("shift", torch.as_tensor(shift, dtype=precision).reshape(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape, in `precision`."""
        return torch.addcmul(self.shift, inputs.to(self.scale.dtype), self.scale)


class Adapted(nn.Module):
    """inputs -> `before` -> `model` -> `after`; None: as they are."""

    def __init__(self, model: nn.Module, before: nn.Module | None, after: nn.Module | None) -> None:
        super().__init__()
        self.before, self.model, self.after = before, model, after

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ...) as the student takes them -> (B, K) as it answers."""
        answers: Tensor = self.model(inputs if self.before is None else self.before(inputs))
        answers = answers if self.after is None else self.after(answers)
        return answers.float() if answers.dtype == torch.float64 else answers


def inner(module: nn.Module) -> nn.Module:
    """The model inside of what adapts it: the one whose modules have the paths that its own code gives them."""
    return module.model if isinstance(module, Adapted) else module


class EstimatorModule(nn.Module):
    """A fitted scikit-learn estimator as a module: log-probabilities (labels: logits), or values."""

    def __init__(self, estimator: Any, task: Task, outputs: int) -> None:
        super().__init__()
        self.estimator, self.task, self.outputs = estimator, task, outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ...) raw inputs -> (B, K), on their device. Raises UsageError without `predict_proba`."""
        from modelopt_cli.training.estimators import scores

        rows = inputs.flatten(1).double().cpu().numpy()
        given = scores(self.estimator, rows, self.task, self.outputs)
        values = given if isinstance(given, np.ndarray) else given.values
        if values is None or (self.task != "regression" and not hasattr(self.estimator, "predict_proba")):
            raise UsageError(
                f"{type(self.estimator).__name__} gives no probabilities (predict_proba), so it cannot teach; use "
                "another estimator, or calibrate it (CalibratedClassifierCV)"
            )
        if self.task == "regression":  # in the targets' own units, which float32 may not tell apart
            return torch.as_tensor(np.asarray(values, np.float64), device=inputs.device)
        answers = torch.as_tensor(np.asarray(values, np.float32), device=inputs.device)
        shares = answers.clamp(_LEAST, 1.0)
        return shares.log() if self.task == "classification" else torch.logit(answers, _LEAST)


def in_students_place(teacher: Checkpoint, student: Prepared, name: str) -> nn.Module:
    """A teacher as a module that takes and gives what a model of the student's data does. Raises UsageError."""
    _check_outputs(teacher, student, name)
    model = teacher.model
    if teacher.architecture.framework == "sklearn":
        model = EstimatorModule(model, teacher.task, teacher.shapes.outputs)
    return adapted(model, teacher.preprocessing, student.preprocessing, name)


def adapted(model: nn.Module, given: Mapping[str, Any] | None, student: Preprocessing, whose: str) -> nn.Module:
    """`model`, trained behind the preprocessing `given` (plain; None: as the student's), in the student's place.

    Raises UsageError where one cannot be brought into the other's form.
    """
    if not given:
        return model
    from modelopt_cli.data.preprocessing import Preprocessing

    teacher = Preprocessing.from_plain(given)
    _check_inputs(teacher, student, whose)
    before, after = _inputs(teacher, student), _outputs(teacher, student)
    exact = teacher.framework == "sklearn" and teacher.task == "regression"  # it answers in float64
    return model if before is None and after is None and not exact else Adapted(model, before, after)


def _check_outputs(teacher: Checkpoint, student: Prepared, name: str) -> None:
    """Raise UsageError for other tasks, classes or their order: outputs are compared one by one."""
    if teacher.task != student.task:
        raise UsageError(
            f"the {name} was trained for {teacher.task}, but the data are {student.task}; use a teacher of the same "
            "data"
        )
    if teacher.shapes.outputs != student.shapes.outputs:
        what = {"classification": "classes", "multilabel": "labels", "regression": "outputs"}[student.task]
        raise UsageError(
            f"the {name} knows {teacher.shapes.outputs} {what}, but the data have {student.shapes.outputs}; use a "
            "teacher of the same data"
        )
    one, other = tuple(teacher.label_names), tuple(student.label_names)
    if one and other and one != other:
        output = next(number for number, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        order = "in another order" if sorted(one) == sorted(other) else "by other names"
        raise UsageError(
            f"the {name} knows the labels {order}: output {output} is '{one[output]}' for it, and '{other[output]}' in "
            "the data; use a teacher of the same data"
        )


def _check_inputs(teacher: Preprocessing, student: Preprocessing, whose: str) -> None:
    shape = teacher.shape
    for what, one, other in (
        ("inputs of the kind", teacher.kind, student.kind),
        ("samples of shape", shape, student.shape),
        ("columns", teacher.feature_names or None, student.feature_names or None),
        ("a vocabulary of", teacher.tokens, student.tokens),
        ("categories", dict(teacher.categories), dict(student.categories)),
    ):
        if one != other and not (what == "columns" and None in (one, other)):
            raise UsageError(
                f"the {whose} takes {what} {one}, but the student's data have {other}; use a teacher of the same data"
            )


def _inputs(teacher: Preprocessing, student: Preprocessing) -> nn.Module | None:
    """From the student's inputs to the teacher's; None: they are the same."""
    if student.kind == "tokens":
        return None
    prefix = "image_" if student.kind == "images" else ""
    old, new = (_pair(getattr(part, f"{prefix}mean"), getattr(part, f"{prefix}std")) for part in (student, teacher))
    if old is None and new is None:
        return None
    scale, shift = _between(old, new)
    if _is_identity(scale, shift):
        return None
    width = len(scale)
    rest = student.output_shape[0] - width if student.kind == "numbers" else 0  # one-hot columns, the same for both
    scale, shift = np.append(scale, np.ones(rest)), np.append(shift, np.zeros(rest))
    return Affine(scale, shift, len(student.output_shape) + 1, _precision(teacher))


def _outputs(teacher: Preprocessing, student: Preprocessing) -> nn.Module | None:
    """From the teacher's values to the student's units; None: they are the same, or no values."""
    new, old = (_pair(part.target_mean, part.target_std) for part in (student, teacher))
    if new is None:
        return None
    if teacher.framework == "sklearn":  # an estimator answers in the targets' own units
        old = None
    scale, shift = _between(old, new)
    return None if _is_identity(scale, shift) else Affine(scale, shift, 2, _precision(teacher))


def _precision(teacher: Preprocessing) -> torch.dtype:
    """An estimator takes and gives raw numbers of any size."""
    return torch.float64 if teacher.framework == "sklearn" else torch.float32


def _pair(mean: Any, std: Any) -> Statistics | None:
    return None if mean is None or std is None else (np.asarray(mean), np.asarray(std))


def _between(old: Statistics | None, new: Statistics | None) -> Statistics:
    """(scale, shift) from numbers standardised by `old` to those standardised by `new`; None: they are raw."""
    width = len((old or new)[0])  # type: ignore[index]
    raw = (np.zeros(width), np.ones(width))
    (mean, std), (new_mean, new_std) = old or raw, new or raw
    return std / new_std, (mean - new_mean) / new_std


def _is_identity(scale: Array, shift: Array) -> bool:
    return bool(np.allclose(scale, 1.0, rtol=1e-12, atol=0) and np.allclose(shift, 0.0, atol=1e-12))
