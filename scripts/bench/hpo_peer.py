"""modelopt as a peer of ../shared/bench/hpo, by its public ask and tell; conditions become choices of sections.

    PYTHONPATH=scripts/bench python .../hpo/run.py run --peers hpo_peer:Modelopt --seeds 10 --out mine.jsonl

`hpo_peer:Tpe` is the sampler `tpe` alone. Needs what run.py needs (coco-experiment for the bbob problems).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from modelopt_cli.tuning.study.study import Study


class Modelopt:
    """The default sampler."""

    sampler: ClassVar[str] = "bayesian"

    def __init__(self, space: Sequence[Mapping[str, Any]], seed: int, budget: int) -> None:
        self._parents = {parent for p in space for parent in sections(space, p)}
        self._study = Study(spec_of(space), self.sampler, seed=seed)
        self._space = space
        self._trial: Any = None

    def ask(self) -> dict[str, Any]:
        """All parameters; those that do not count get a value that does not matter."""
        self._trial = self._study.ask()
        params = self._trial.params
        setting = {p["name"]: _any(p) for p in self._space}
        for path, value in params.items():
            name = path.rpartition(".")[2]
            setting[name] = value["type"] if name in self._parents else value
        return setting

    def tell(self, config: Mapping[str, Any], loss: float) -> None:
        """The loss of the last ask."""
        self._study.tell(self._trial, float(loss))


class Tpe(Modelopt):
    """Parzen estimators alone."""

    sampler = "tpe"


def sections(space: Sequence[Mapping[str, Any]], p: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    """The condition under which `p` counts, where it is a value of one category; else none."""
    active = p.get("active") or {}
    kinds = {q["name"]: q["type"] for q in space}
    top = {q["name"] for q in space if not q.get("active")}
    one = len(active) == 1 and all(kinds[name] == "categorical" and name in top for name in active)
    return active if one else {}


def spec_of(space: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The space as modelopt writes it."""
    parents = {name for p in space for name in sections(space, p)}
    spec: dict[str, Any] = {}
    for p in space:
        if p["name"] in parents:
            branches = [
                {"type": value, **{q["name"]: _one(q) for q in space if value in sections(space, q).get(p["name"], ())}}
                for value in p["choices"]
            ]
            spec[p["name"]] = {"choice": branches}
        elif not sections(space, p):
            spec[p["name"]] = _one(p)
    return spec


def _one(p: Mapping[str, Any]) -> Any:
    if p["type"] == "categorical":
        return {"choice": list(p["choices"])}
    return {p["type"]: [p["low"], p["high"]], "log": bool(p.get("log"))}


def _any(p: Mapping[str, Any]) -> Any:
    return p["choices"][0] if p["type"] == "categorical" else p["low"]
