"""What a model was before its pruning and straight after it, kept so that both can be judged beside what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from modelopt_cli.results.report import Cell, Table
from modelopt_cli.workflows.shared.changes import changes

if TYPE_CHECKING:
    from torch import nn

Name = Literal["before", "pruned"]
"""Before anything has gone, and straight after the last pruning. `final` is the model as it is now."""
Saved = TypeVar("Saved")
"""What a snapshot holds: plain values and tensors."""


class Snapshots(Generic[Saved]):
    """Snapshots of a module by name, its metrics at each, and a row for every round of pruning and recovery."""

    def __init__(
        self,
        capture: Callable[[nn.Module], Saved],
        rebuild: Callable[[Saved], nn.Module],
        *,
        rebuilt_once: bool = False,
    ) -> None:
        """`rebuilt_once`: rebuilding takes long, so the modules are kept, too."""
        self._capture, self._rebuild, self._rebuilt_once = capture, rebuild, rebuilt_once
        self._modules: dict[str, nn.Module] = {}
        self._metrics: dict[str, dict[str, float]] = {"before": {}, "pruned": {}, "final": {}}
        self.saved: dict[str, Saved] = {}
        self.rounds: list[dict[str, Cell]] = []

    def load(self, saved: Mapping[str, Saved], rounds: Sequence[Mapping[str, Cell]]) -> None:
        """Go on from `saved` and `rounds` as they were."""
        self._modules.clear()
        self.saved, self.rounds = dict(saved), [dict(row) for row in rounds]

    def keep(self, name: Name, module: nn.Module) -> None:
        """Keep the module as it is now; `before` once."""
        if name != "before" or name not in self.saved:
            self.saved[name] = self._capture(module)
            self._modules.pop(name, None)

    def module(self, name: Name) -> nn.Module | None:
        """A module as it was kept under this name; None: there is none."""
        if name not in self.saved:
            return None
        if name in self._modules:
            return self._modules[name]
        module = self._rebuild(self.saved[name])
        if self._rebuilt_once:
            self._modules[name] = module
        return module

    def judge(self, module: nn.Module, evaluate: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
        """Every metric of the module now; beside it the drop (for losses and errors the rise) since before."""
        names: tuple[Name, ...] = ("before", "pruned")
        for name in names:
            if (kept := self.module(name)) is not None:
                self._metrics[name] |= evaluate(kept)
        metrics = evaluate(module)
        self._metrics["final"] |= metrics
        return {**metrics, **changes(metrics, self._metrics["before"])}

    def metrics(self, name: Name) -> dict[str, float]:
        """Those of the snapshot, as far as it was judged."""
        return dict(self._metrics[name])

    def begin_round(self, number: int) -> None:
        """Round number `number`, from 0, is about to prune."""
        self.rounds.append({"round": number + 1})

    def end_round(self, number: int, row: Mapping[str, Cell]) -> None:
        """What there is to say of a round, now that it and its recovery have ended."""
        self.rounds[number] |= row

    def table(self, sizes: Callable[[Saved | None], Mapping[str, float]]) -> Table:
        """A row for each that was judged: its metrics, and sizes from its snapshot (None: from the module as it is)."""
        rows = [
            {"stage": name, **metrics, **sizes(self.saved.get(name))}
            for name, metrics in self._metrics.items()
            if metrics
        ]
        return Table.from_records(rows)
