"""What may stand where in an experiment file, read off the classes of its sections: for paths, hints and anchoring."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from modelopt_cli.core.strategy import FAMILIES, Named, Strategy
from modelopt_cli.tuning.exchange.optuna_address import PREFIX, OptunaAddress


@dataclass(frozen=True)
class Slot:
    """What a position takes: sections (a class each), strategies of families, a list, any mapping, else values."""

    sections: tuple[type[BaseModel], ...] = ()
    families: tuple[str, ...] = ()
    items: Slot | None = None
    free: bool = False  # a mapping with any keys, or anything at all

    def section(self, value: Any) -> type[BaseModel] | None:
        """The class of the section that `value` writes; None when it is none or its type is unknown."""
        name = value.get("type") if isinstance(value, Mapping) else value
        if isinstance(name, str):
            for family in self.families:
                try:
                    return FAMILIES[family].get(name)
                except KeyError:
                    continue
        if self.sections and (value is None or isinstance(value, Mapping)):
            return self.sections[0]
        return None

    @property
    def leaf(self) -> bool:
        """Nothing lies below."""
        return not (self.sections or self.families or self.items or self.free)


FREE = Slot(free=True)


@cache
def slots(section: type[BaseModel]) -> dict[str, Slot]:
    """The slots of a section's fields."""
    return {name: _slot(field.annotation, tuple(field.metadata)) for name, field in section.model_fields.items()}


def is_open(section: type[BaseModel]) -> bool:
    """Whether keys beyond the fields are allowed (the arguments of a scikit-learn estimator)."""
    return section.model_config.get("extra") == "allow"


def keys(section: type[BaseModel]) -> list[str]:
    """The keys that a section knows, `type` of a strategy included."""
    return [*(["type"] if issubclass(section, Strategy) else []), *section.model_fields]


def slot_in(section: type[BaseModel], key: str) -> Slot | None:
    """The slot of a key; None when the section does not know it."""
    slot = slots(section).get(key)
    if slot is None and key == "type" and issubclass(section, Strategy):
        return Slot()
    return FREE if slot is None and is_open(section) else slot


def _slot(annotation: Any, metadata: Sequence[Any] = ()) -> Slot:
    for item in metadata:
        if isinstance(item, Named):
            return Slot(families=(item.family,))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _slot(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return _merge([_slot(argument) for argument in arguments])
    if origin in (tuple, list):
        return Slot(items=_merge([_slot(argument) for argument in arguments if argument is not Ellipsis]))
    if origin in (dict, Mapping) or annotation in (dict, Any):
        return FREE
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Slot(sections=(annotation,))
    return Slot()


def _merge(parts: Sequence[Slot]) -> Slot:
    return Slot(
        sections=tuple(section for part in parts for section in part.sections),
        families=tuple(family for part in parts for family in part.families),
        items=next((part.items for part in parts if part.items is not None), None),
        free=any(part.free for part in parts),
    )


def default(section: type[BaseModel], key: str) -> Any:
    """The default of a field as it would be written in a file; None when there is none, or it is required."""
    field = section.model_fields.get(key)
    if field is None or field.is_required():
        return None
    return sparse(field.get_default(call_default_factory=True, validated_data={}))


def sparse(value: Any) -> Any:
    """Plain values of a setting, without what was left at its default."""
    if isinstance(value, BaseModel):
        given = {key: sparse(getattr(value, key)) for key in value.model_fields_set}
        return {"type": value.name(), **given} if isinstance(value, Strategy) else given
    return _plain(value, sparse)


def plain(value: Any, everything: bool = False) -> Any:
    """Plain values of a setting, defaults included, `type` first.

    What a class names in `left_out` stays left out where nobody wrote it, since that means something else than its
    default written out; `everything`: not even that.
    """
    if isinstance(value, BaseModel):
        left_out = () if everything else getattr(value, "left_out", ())
        given = {
            key: plain(item, everything) for key, item in value if key not in left_out or key in value.model_fields_set
        }
        return {"type": value.name(), **given} if isinstance(value, Strategy) else given
    return _plain(value, partial(plain, everything=everything))


def _plain(value: Any, inner: Any) -> Any:
    if isinstance(value, tuple | list):
        return [inner(item) for item in value]
    if isinstance(value, Mapping):
        return {key: inner(item) for key, item in value.items()}
    return value


def anchor(value: Any, slot: Slot, folder: Path) -> Any:
    """`value` with the relative paths in it joined to `folder`: the options that a class lists in `path_fields`."""
    if isinstance(value, list) and slot.items is not None:
        return [anchor(item, slot.items, folder) for item in value]
    value = spelled_out(value, slot)
    section = slot.section(value)
    if section is None or not isinstance(value, Mapping | str):
        return value
    paths = getattr(section, "path_fields", ())
    if isinstance(value, str):
        if not paths:
            return value
        value = {"type": value}
    known = slots(section)
    anchored = {key: anchor(item, known[key], folder) if key in known else item for key, item in value.items()}
    for key in paths:
        given = anchored[key] if key in anchored else default(section, key)
        if given is not None:
            anchored[key] = _joined(given, folder)
    return anchored


def spelled_out(value: Any, slot: Slot) -> Any:
    """A text that stands for a section's one key, as that section: `teacher: model.pt`."""
    shorthand = getattr(slot.sections[0], "shorthand", None) if slot.sections else None
    return {shorthand: value} if isinstance(value, str) and shorthand is not None else value


def _joined(path: Any, folder: Path) -> Any:
    if isinstance(path, list):
        return [_joined(item, folder) for item in path]
    if not isinstance(path, str) or not path or "\0" in path:
        return path
    if path.startswith(PREFIX):
        return _joined_address(path, folder)
    if "://" in path:
        return path
    return str(folder / (Path(path).expanduser() if path.startswith("~/") else path))


def _joined_address(text: str, folder: Path) -> str:
    """Where a study of Optuna's lies; as it is when nothing can be made of it, for the section to say so."""
    try:
        address = OptunaAddress.parse(text)
    except ValueError:
        return text
    return text if address is None else str(address.joined(lambda file: str(_joined(file, folder))))
