"""Which of two classes is the positive one: the second, which recall_binary and the like are about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData, Task

_LOOKS_AT_IT = ("precision_binary", "recall_binary", "f1_binary", "roc_auc")
_TRUE = ("true", "1")


def with_positive(raw: RawData, positive: Any) -> RawData:
    """The data with the class `positive` as the second one; None: as they are.

    Raises InputError where it is no class of the target, or there are not just two.
    """
    if positive is None:
        return raw
    from modelopt_cli.data.columns import PLAIN, kind_of_texts, label_text

    name, labels = label_text(positive), raw.label_names
    what = f"data.positive is '{name}'"
    if raw.task != "classification":
        raise InputError(f"{what}, but the task is {raw.task}, which has no positive class; leave it out")
    if len(labels) != 2:
        shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        raise InputError(f"{what}, but the target has {len(labels)} classes ({shown}), not two; leave it out")
    if name not in labels:  # '01' in quotes, where the column was read as numbers; 'true' as a text
        alike = [label for label in labels if label in (PLAIN.canonical(name), name.capitalize())]
        name = alike[0] if alike and all(kind_of_texts([label]) != "text" for label in labels) else name
    if name not in labels:
        hint = did_you_mean(name, labels)
        raise InputError(f"{what}, which is no class of the target.{hint} Its classes: {', '.join(labels)}")
    if labels[1] == name:
        return raw
    return replace(raw, targets=1 - raw.targets, label_names=labels[::-1], swapped=True)


def named_positive(task: Task, labels: Sequence[str], metrics: Collection[str]) -> str | None:
    """The positive class, where one of the metrics is about it; None where none is, or there are not two classes."""
    asked = any(name.rpartition(".")[2].startswith(_LOOKS_AT_IT) for name in metrics)
    return labels[1] if task == "classification" and len(labels) == 2 and asked else None


def left_to_the_alphabet(labels: Sequence[str], positive: Any) -> str:
    """A warning where nobody chose among two classes that are text; empty where somebody did, or numbers say it."""
    if positive is not None or len(labels) != 2 or list(labels) != sorted(labels):
        return ""
    if labels[1].lower() in _TRUE or all(_is_number(label) for label in labels):
        return ""
    return (
        f"the positive class of recall_binary, precision_binary and f1_binary is '{labels[1]}', the last one in the "
        f"alphabet; to choose, write 'positive: {labels[0]}' (or {labels[1]}) under data"
    )


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
