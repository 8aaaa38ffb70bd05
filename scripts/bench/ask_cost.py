"""What asking for a random trial and telling it costs after few and after 10,000 trials, beside Optuna.

CPU time of one process, studies in memory and in files: ours commits each ask and each tell (synchronous=FULL), as
Optuna's storages do. Optuna's files get fewer trials, which take it long enough.
"""

from __future__ import annotations

from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from _common import HERE, ONE_THREAD, PEERS, PYTHON, options, peers_available, run, show, verdict, write

OURS = [("modelopt", "memory", 2500), ("modelopt", "memory", 10_000), ("modelopt", "sqlite", 2500)]
THEIRS = [
    ("optuna", "memory", 2500),
    ("optuna", "memory", 10_000),
    ("optuna", "journal", 500),
    ("optuna", "sqlite", 200),
]


def measured(kind: str, store: str, count: int) -> dict[str, float]:
    python = PYTHON if kind == "modelopt" else PEERS
    with TemporaryDirectory() as folder:
        figures: dict[str, float] = run(
            [python, HERE / "_ask_run.py", kind, store, str(count), folder], env=ONE_THREAD
        ).json()
        return figures


def main() -> None:
    args = options(__doc__, repeats=3)
    contenders = [*OURS, *(THEIRS if peers_available() else ())]
    turns: dict[str, list[dict[str, float]]] = {f"{kind}, {store}, {count:,}": [] for kind, store, count in contenders}
    for _ in range(args.repeats):
        for (kind, store, count), rows in zip(contenders, turns.values(), strict=True):
            rows.append(measured(kind, store, count))
    parts = ("first ask", "last ask", "first tell", "last tell")

    def middle(rows: list[dict[str, float]], part: str) -> float:
        return median(row[part] for row in rows)

    lines: list[list[Any]] = [
        [name, f"{middle(rows, 'cpu'):.2f}", *(f"{1000 * middle(rows, part):.3f}" for part in parts)]
        for name, rows in turns.items()
    ]
    show("Random trials", ["study, trials", "CPU s", *(f"{part}, ms" for part in parts)], lines)
    last = 1000 * middle(turns["modelopt, memory, 10,000"], "last ask")
    write(args.out, "ask_cost", turns, [verdict("an ask after 10,000 trials", last, 0.2, " ms")])


if __name__ == "__main__":
    main()
