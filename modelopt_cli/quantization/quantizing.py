"""From a float model to the file of 8 bits: all layers at once, and fewer of them where too much is lost.

Which layers are sensitive is measured by leave-one-float: with all layers in 8 bits, each one alone is left in float,
and what that wins back on validation is the drop that the layer causes. Those that cause most are then left in float
one after another until the drop is met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.core.work import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.quantization.layers import Layer, Quantizer
    from modelopt_cli.quantization.settings import QuantizationSettings

Judge = Callable[["nn.Module"], float]
"""How well a module does on validation; higher is better."""

_NAMED = 5  # layers that a warning names


@dataclass(frozen=True)
class Quantized:
    """A quantized model. `content`: the file; `module` runs these very bytes, on what the float module takes."""

    content: bytes
    suffix: str
    module: nn.Module
    layers: list[dict[str, Any]]  # a record each: layer, operator, parameters, precision, drop, why
    warnings: list[str] = field(default_factory=list)
    float_score: float | None = None  # the judge's word on the float module
    score: float | None = None  # ... and on the file
    first_score: float | None = None  # ... and on the file with every layer in 8 bits that can be
    size_bytes: int = 0  # of the tensors in the file
    quantizer: Quantizer | None = None

    def deliverable(self, preprocessing: Preprocessing, shapes: Shapes, label_names: Sequence[str]) -> bytes:
        """The same as a file that takes raw inputs and tells of itself, as what `modelopt export` writes.

        Raises ModeloptError where it would compute something else.
        """
        from modelopt_cli.models.files.exporting import about_raw_model
        from modelopt_cli.training.raw_inputs import about_raw

        assert self.quantizer is not None
        raw = about_raw(preprocessing, shapes.task, shapes.outputs)
        about = about_raw_model(shapes, label_names, raw, preprocessing.to_plain())
        return self.quantizer.deliverable(self.content, self.module, preprocessing, shapes.task, shapes.outputs, about)


def quantize(
    module: nn.Module,
    settings: QuantizationSettings,
    *,
    calibration: Tensor,
    example: Tensor,
    about: Mapping[str, Any],
    judge: Judge | None,
) -> Quantized:
    """Quantize `module`, on the CPU and in evaluation mode, by the settings' method; it stays as it was.

    `calibration`: (N, *inputs), train samples, of which `settings.samples` are looked at. `example`: (B, *inputs), B at
    least 2. `about`: what the file tells of itself. `judge`: None where there is no validation split: nothing is
    searched then. Raises UsageError where nothing can be quantized, MissingExtraError without the method's packages.
    """
    from modelopt_cli.models.modes import evaluating

    with evaluating(module):
        quantizer = settings.method.quantizer(
            module, calibration=calibration[: settings.samples], example=example, about=about
        )
        excluded = _excluded(quantizer, settings)
        return _Search(quantizer, settings, excluded, None if judge is None else _finite(judge)).run(module)


def _finite(judge: Judge) -> Judge:
    """A score that is no number is the worst of all."""

    def judged(module: nn.Module) -> float:
        score = judge(module)
        return -math.inf if math.isnan(score) else score

    return judged


def _excluded(quantizer: Quantizer, settings: QuantizationSettings) -> set[str]:
    """The layers that the section leaves in float. Raises UsageError for a glob without a match, or when all are."""
    names = [layer.name for layer in quantizer.layers]
    for glob in settings.exclude:
        if not any(settings.model_copy(update={"exclude": (glob,)}).excludes(name) for name in names):
            raise UsageError(
                f"quantization.exclude: no layer is called '{glob}'.{did_you_mean(glob, names)} "
                f"Layers: {_listed(names, 20) or 'none'}"
            )
    if all(layer.unsupported for layer in quantizer.layers):
        reasons = dict.fromkeys(layer.unsupported for layer in quantizer.layers)
        raise UsageError(
            f"quantization.method {settings.method.name()} can quantize no layer of this model "
            f"({'; '.join(reasons) or 'it has none with weights'}); use another method"
        )
    if all(layer.unsupported or settings.excludes(layer.name) for layer in quantizer.layers):
        raise UsageError(
            f"quantization.exclude leaves every layer in float ({', '.join(settings.exclude)}); leave fewer out"
        )
    return {name for name in names if settings.excludes(name)}


class _Search:
    """One quantization: what was judged on the way, and what came of it."""

    def __init__(
        self, quantizer: Quantizer, settings: QuantizationSettings, excluded: Collection[str], judge: Judge | None
    ) -> None:
        self._quantizer, self._settings, self._judge = quantizer, settings, judge
        self._excluded = frozenset(excluded)
        self._drops: dict[str, float] = {}  # layer -> what leaving it alone in float wins back
        self._warnings: list[str] = []

    def run(self, module: nn.Module) -> Quantized:
        """All layers at once first."""
        left, judge, most = self._excluded, self._judge, self._settings.max_drop
        float_score = first = score = None
        content = self._quantizer.content(left)
        if judge is not None:
            float_score = judge(module)
            first = score = judge(self._quantizer.running(content))
            if most is not None and float_score - score > most:
                left, content, score = self._within(float_score - most, score, judge)
                if float_score - score > most:
                    self._warnings.append(
                        f"quantization.max_drop is {most:g}, but with every layer in float the file still loses "
                        f"{float_score - score:.4g}"
                    )
        self._warn_of_floats(left)
        return Quantized(
            content,
            self._quantizer.suffix,
            self._quantizer.running(content),
            [self._record(layer, left) for layer in self._quantizer.layers],
            self._warnings,
            float_score,
            score,
            first,
            self._quantizer.tensor_bytes(content),
            self._quantizer,
        )

    def _within(self, least: float, score: float, judge: Judge) -> tuple[frozenset[str], bytes, float]:
        """Leave layers in float until the score is at least `least`; (layers in float, file, score)."""
        blocks = list(self._blocks())
        alone: dict[tuple[str, ...], float] = {}
        for block in counted(blocks, "layers on trial"):
            alone[block] = judge(self._quantizer.running(self._quantizer.content(self._excluded | set(block))))
            self._drops |= dict.fromkeys(block, alone[block] - score)
        left, content = self._excluded, b""
        ranked = sorted(blocks, key=lambda block: -alone[block])
        for number, block in enumerate(counted(ranked, "layers left in float")):
            left |= set(block)
            content = self._quantizer.content(left)
            score = alone[block] if number == 0 else judge(self._quantizer.running(content))
            if score >= least:
                break
        return left, content, score

    def _blocks(self) -> Iterator[tuple[str, ...]]:
        """The layers on trial, each alone; where there are more than `tries`, neighbours together."""
        names = [layer.name for layer in self._quantizer.layers if not layer.unsupported]
        names = [name for name in names if name not in self._excluded]
        count = min(self._settings.tries, len(names))
        ends = [len(names) * number // count for number in range(count + 1)]
        for start, end in pairwise(ends):
            yield tuple(names[start:end])

    def _record(self, layer: Layer, left: Collection[str]) -> dict[str, Any]:
        why = layer.unsupported
        if not why and layer.name in left:
            why = "quantization.exclude" if layer.name in self._excluded else "sensitive"
        return {
            "layer": layer.name,
            "operator": layer.operator,
            "parameters": layer.parameters,
            "precision": "float" if why else "int8",
            "drop": self._drops.get(layer.name),
            "why": why,
        }

    def _warn_of_floats(self, left: Collection[str]) -> None:
        """What is not in 8 bits though nobody said so."""
        for reason in dict.fromkeys(layer.unsupported for layer in self._quantizer.layers if layer.unsupported):
            names = [layer.name for layer in self._quantizer.layers if layer.unsupported == reason]
            self._warnings.append(f"left in float: {_listed(names)} ({reason})")
        able = [layer for layer in self._quantizer.layers if not layer.unsupported]
        sensitive = [layer.name for layer in able if layer.name in left and layer.name not in self._excluded]
        if sensitive:
            other = "add quantization.recovery" if self._settings.method.fake else "use another quantization.method"
            every = len(sensitive) == len(able) - len(self._excluded & {layer.name for layer in able})
            self._warnings.append(
                f"quantization.max_drop is {self._settings.max_drop:g}, so {len(sensitive)} of {len(able)} layers stay "
                f"in float: {_listed(sensitive)}"
                + (f"; no layer is quantized: allow a larger drop, or {other}" if every else "")
            )


def _listed(names: Sequence[str], most: int = _NAMED) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
