"""A strategy is one file: a frozen pydantic model whose fields are its options and whose methods are its work.

The file's stem is its YAML name (`global_.py` is `global`). A *family* is a package of strategies: every public
module in it is one, private siblings (`_name.py`) hold what a strategy needs. Nothing is registered: adding a file,
or an entry point in the group `modelopt_cli.<family>`, adds the strategy to validation, `modelopt list` and the
JSON Schema. Strategy modules import nothing heavy at module level, so that validation is fast.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_serializer
from pydantic_core import PydanticCustomError, core_schema

from modelopt_cli.core.consent import Code
from modelopt_cli.core.errors import did_you_mean


class Settings(BaseModel):
    """Base of every section of an experiment file: frozen, unknown keys refused, no silent conversion.

    Strict types: `"0.1"` is no number and `true` no integer; an integer is accepted where a float is asked.
    A sequence field is written `Items[int]` (core/types.py), which takes a YAML list and stores a tuple.
    """

    # Deferred, so that a nested section is built once, as a part of the outer one, and an unused one never.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Strategy(Settings):
    """Base of everything that a YAML file names by `type:`. Subclasses are final; see the module docstring."""

    family: ClassVar[str]
    extra: ClassVar[str] = ""
    """The extra of modelopt-cli without which it cannot run; "": the standard installation is enough."""
    path_fields: ClassVar[tuple[str, ...]] = ()
    """Options that are paths: the experiment loader joins relative ones with the folder of the file."""

    @classmethod
    def name(cls) -> str:
        """The YAML name: the module's stem without a trailing underscore."""
        return cls.__module__.rpartition(".")[2].rstrip("_")

    @classmethod
    def summary(cls) -> str:
        """The first line of the class docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    def code(self) -> Code | None:
        """Code outside modelopt that its options name, and that it runs; None: it names none."""
        return None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        reference = handler(schema)
        own = handler.resolve_ref_schema(reference)
        own["properties"] = {"type": {"const": cls.name()}, **own.get("properties", {})}
        for name, field in cls.model_fields.items():  # pydantic forgets it where the option is a section
            if field.description is not None and "$ref" in own["properties"][name]:
                own["properties"][name].setdefault("description", field.description)
        own["required"] = ["type", *own.get("required", [])]
        own["description"] = cls.summary()
        return reference

    @model_serializer(mode="wrap")
    def _with_type(self, handler: Any) -> dict[str, Any]:
        return {"type": self.name(), **handler(self)}


_on_foreign: ContextVar[Callable[[Family, str, str], None] | None] = ContextVar("on_foreign", default=None)


@contextmanager
def asked_first(check: Callable[[Family, str, str], None]) -> Iterator[None]:
    """Before a strategy of another package is imported, call `check` with its family, name and entry point."""
    token = _on_foreign.set(check)
    try:
        yield
    finally:
        _on_foreign.reset(token)


@dataclass(frozen=True)
class Family:
    """A package whose public modules are strategies of one kind."""

    name: str
    package: str
    noun: str

    def names(self) -> list[str]:
        """Every name that may stand under `type:`, own ones first, both parts sorted."""
        return [*sorted(_own(self.package)), *sorted(_foreign(self.name))]

    def get(self, name: str) -> type[Strategy]:
        """The strategy called `name`. Raises KeyError, with a message that suggests the nearest name."""
        own = _own(self.package)
        if name in own:
            module = importlib.import_module(f"{self.package}.{own[name]}")
            return _strategy_in(module.__name__, vars(module))
        foreign = _foreign(self.name)
        if name in foreign:
            check = _on_foreign.get()
            if check is not None:
                check(self, name, foreign[name].value)
            return foreign[name].load()  # type: ignore[no-any-return]
        raise KeyError(
            f"unknown {self.noun} '{name}'.{did_you_mean(name, self.names())} "
            f"Known: {', '.join(self.names())} (see: modelopt list {self.name})"
        )


@cache
def _own(package: str) -> dict[str, str]:
    folder = importlib.import_module(package).__path__
    stems = [module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_")]
    return {stem.rstrip("_"): stem for stem in stems}


@cache
def _foreign(family: str) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=f"modelopt_cli.{family}")}


def _strategy_in(module: str, namespace: dict[str, Any]) -> type[Strategy]:
    classes = [
        value
        for value in namespace.values()
        if isinstance(value, type)
        and issubclass(value, Strategy)
        and value.__module__ == module
        and not inspect.isabstract(value)
        and not value.__name__.startswith("_")
    ]
    if len(classes) != 1:
        raise TypeError(f"{module} must define exactly one public strategy class, found {len(classes)}")
    return classes[0]


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("data", "modelopt_cli.data.sources", "data type"),
        Family("augmentations", "modelopt_cli.data.augmentations", "augmentation"),
        Family("models", "modelopt_cli.models.architectures", "model type"),
        Family("optimizers", "modelopt_cli.training.optimizers", "optimizer"),
        Family("schedules", "modelopt_cli.training.schedules", "learning-rate schedule"),
        Family("samplers", "modelopt_cli.tuning.samplers", "sampler"),
        Family("stoppers", "modelopt_cli.tuning.stoppers", "stopper"),
        Family("schedulers", "modelopt_cli.tuning.schedulers", "scheduler"),
        Family("executors", "modelopt_cli.tuning.executors", "executor"),
        Family("importances", "modelopt_cli.pruning.importances", "importance"),
        Family("structures", "modelopt_cli.pruning.structures", "structure"),
        Family("allocations", "modelopt_cli.pruning.allocations", "allocation"),
        Family("pruning_schedules", "modelopt_cli.pruning.schedules", "pruning schedule"),
        Family("compensations", "modelopt_cli.pruning.compensations", "compensation"),
        Family("quantizations", "modelopt_cli.quantization.methods", "quantization method"),
        Family("loggers", "modelopt_cli.results.loggers", "logger"),
        Family("distillation_losses", "modelopt_cli.distillation.losses", "distillation loss"),
    )
}


@dataclass(frozen=True)
class Named:
    """Annotation of a field that holds a strategy: `sampler: Annotated[Sampler, Named("samplers")]`.

    Accepts an instance, a bare name (`cosine`), or a mapping with `type`. Errors keep their place in the file.
    """

    family: str

    def parse(self, value: Any) -> Strategy:
        """The validated strategy. Raises PydanticCustomError or ValidationError, both with nested locations."""
        if isinstance(value, Strategy):
            return value
        if isinstance(value, str):
            value = {"type": value}
        family = FAMILIES[self.family]
        if not isinstance(value, dict):
            raise PydanticCustomError(
                "strategy_type",
                "{value} is no {noun}; write a name or a mapping with 'type'",
                {"value": repr(value), "noun": family.noun},
            )
        if not isinstance(value.get("type"), str):
            raise PydanticCustomError(
                "strategy_missing",
                "a {noun} needs 'type'; one of: {names}",
                {"noun": family.noun, "names": ", ".join(family.names())},
            )
        try:
            strategy = family.get(value["type"])
        except KeyError as error:
            raise PydanticCustomError("strategy_unknown", "{message}", {"message": error.args[0]}) from None
        return strategy.model_validate({key: item for key, item in value.items() if key != "type"})

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.model_dump(mode="json") if isinstance(value, Strategy) else value
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        family = FAMILIES[self.family]
        # A union, so that the outer generator makes each branch: definitions and references are the whole schema's.
        branches = [family.get(name).__pydantic_core_schema__ for name in family.names()]
        return handler(core_schema.union_schema([core_schema.literal_schema(family.names()), *branches]))
