"""Every network that neuron pruning must take, ours beside Torch-Pruning: what is found, how exactly, how fast.

    python scripts/bench/neurons_zoo.py [NAME...] [--slow] [--peer VENV] [--out FILE]

Ours: seconds to capture the module (best of --repeats), milliseconds to analyse the graph (median), groups, the worst
error of the oracle (a third of the units silenced on both sides, against the same removed; group by group, and all
together; groups over which a norm or a mean is computed have none), the share of the parameters outside the embeddings
and the output layer that units hold (cover), what is left of them when half of every group goes, and how many groups
the user's module itself can lose (place); the others go from its graph. VENV is an environment with Torch-Pruning, see
_zoo_peer.py; without it the columns behind TP, whether it runs, stay empty. agree: of its groups, how many the oracle
agrees with; its cover counts even where it goes wrong; right: the share that it covers without an error. A network of
full size (--slow) has the oracle for all groups together and for the first three.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from _common import HERE, ONE_THREAD, ROOT, show, verdict, write

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.bundles import in_place
from modelopt_cli.models.graph.capture import capture
from modelopt_cli.models.graph.groups import coverage, grouping
from modelopt_cli.models.graph.rewriting import error, first_tensor, rewritten
from tests.support.zoo import ZOO, counted, make

BATCH, OTHER = 3, 5  # batch sizes: captured with, compared on
FULL_SIZE = ("resnet50_full", "gpt2_full")
OURS = ("s", "ms", "groups", "error", "cover", "left", "place")
THEIRS = ("TP", "agree", "error", "cover", "right", "left", "s")


def ours(name: str, repeats: int) -> dict[str, Any]:
    """Everything measured of one network."""
    entry, module = ZOO[name], make(name)
    torch.manual_seed(0)
    example, batch = entry.inputs(BATCH), entry.inputs(OTHER)
    captures, analyses = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        captured = capture(module, example)
        captures.append(time.perf_counter() - start)
    graph = captured.graph
    for _ in range(max(repeats, 5)):
        start = time.perf_counter()
        analysis = Analysis(graph)
        grouped = grouping(graph, analysis)
        analyses.append(time.perf_counter() - start)
    exact = [group for group in grouped.groups if not group.shifts]
    bundles = [[group] for group in (exact[:3] if entry.slow else exact)] + [exact]
    errors = [error(graph, analysis, _keep(bundle, 1 / 3), batch) for bundle in bundles if bundle]
    before = {each: parameter.numel() for each, parameter in counted(name, module)}
    half = rewritten(graph, analysis, _keep(grouped.groups, 0.5))
    with torch.no_grad():
        assert torch.isfinite(first_tensor(half(batch))).all(), name
    after = dict(half.named_parameters(remove_duplicate=False))
    share, reasons = coverage(graph, analysis, grouped, grouped.groups, entry.output)
    lost_in_place = None if entry.slow else len(in_place(module, captured, analysis, grouped.groups).groups)
    return {
        "capture_seconds": captures,
        "analysis_seconds": analyses,
        "nodes": len(graph.graph.nodes),
        "any_batch_size": captured.dynamic,
        "groups": len(grouped.groups),
        "with_statistics": len(grouped.groups) - len(exact),
        "worst_error": max(errors, default=None),
        "coverage": share,
        "frozen": dict(reasons),
        "left": sum(after[each].numel() for each in before) / sum(before.values()),
        "in_place": lost_in_place,
    }


def _keep(groups: Any, share: float) -> Any:
    """Masks without this share of each group, rounded up for a half and to at least one."""
    keep: dict[Any, Any] = {}
    for group in groups:
        removed = -(-group.size // 2) if share == 0.5 else max(1, int(group.size * share))
        order = np.random.default_rng(0).permutation(group.size)
        keep[group.prime] = order >= removed
    return keep


def theirs(names: list[str], venv: Path | None) -> dict[str, dict[str, Any]]:
    """What _zoo_peer.py reports, by network; nothing without an environment for it."""
    if venv is None:
        return {}
    with TemporaryDirectory() as folder:
        out = Path(folder) / "peer.json"
        command: list[str | Path] = [venv / "bin" / "python", HERE / "_zoo_peer.py", *names, "--out", out]
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return {each["name"]: each for each in json.loads(out.read_text())}


def line(name: str, mine: dict[str, Any], peer: dict[str, Any] | None) -> list[str]:
    """A row of the table."""
    cells = [
        f"{min(mine['capture_seconds']):.2f}",
        f"{1000 * median(mine['analysis_seconds']):.0f}",
        str(mine["groups"]),
        _error(mine["worst_error"]),
        f"{mine['coverage']:.1%}",
        f"{mine['left']:.2f}",
        "" if mine["in_place"] is None else f"{mine['in_place']}/{mine['groups']}",
    ]
    return [name, *cells, *_peer_cells(peer)]


def _peer_cells(peer: dict[str, Any] | None) -> list[str]:
    if peer is None:
        return [""] * len(THEIRS)
    oracle, right, ran = peer.get("oracle") or {}, peer.get("correct") or {}, "coverage" in peer
    return [
        "yes" if peer["ok"] else "no",
        f"{oracle['agree']}/{oracle['groups'] - oracle['of_a_norm']}" if "groups" in oracle else "",
        _error(peer_error(peer)),
        f"{peer['coverage']:.1%}" if ran else "",
        f"{right['coverage']:.1%}" if right else "",
        f"{1 - peer['removed']:.2f}" if ran else "",
        f"{peer['graph_seconds'] + peer['prune_seconds']:.2f}" if ran else "",
    ]


def peer_error(peer: dict[str, Any]) -> float | None:
    """The worst of its groups alone and together; None where nothing could be compared."""
    oracle = peer.get("oracle") or {}
    errors = [each for each in (oracle.get("worst"), oracle.get("together")) if isinstance(each, float)]
    return max(errors, default=None)


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def goals(mine: dict[str, dict[str, Any]], peer: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What issue 4 asks for."""
    errors = [each["worst_error"] for each in mine.values() if each["worst_error"] is not None]
    listed = [name for name in mine if not ZOO[name].stays]
    verdicts = [verdict("worst error of the oracle", max(errors, default=0.0), 1e-5, "")]
    if listed:
        verdicts.append(verdict("most parameters left at 0.5", max(mine[name]["left"] for name in listed), 0.5, ""))
    for name in (name for name in FULL_SIZE if name in mine):
        verdicts.append(verdict(f"capture of {name}", min(mine[name]["capture_seconds"]), 5.0, " s"))
        verdicts.append(verdict(f"analysis of {name}", median(mine[name]["analysis_seconds"]), 0.1, " s"))
    behind = [name for name in peer if mine[name]["coverage"] < peer[name].get("coverage", 0.0) - 1e-9]
    if peer:
        verdicts.append(verdict(f"networks with less coverage than Torch-Pruning {behind or ''}", len(behind), 0, ""))
    return verdicts


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; default: all")
    parser.add_argument("--slow", action="store_true", help="also those of full size")
    parser.add_argument("--peer", type=Path, metavar="VENV", help="environment with Torch-Pruning")
    parser.add_argument("--repeats", type=int, default=1, help="captures of each network; default 1")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(ZOO))
    if unknown:
        parser.error(f"there is no network {unknown[0]}; choose from {', '.join(ZOO)}")
    names = given.names or [name for name, entry in ZOO.items() if given.slow or not entry.slow]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    capture(torch.nn.Linear(2, 2), torch.randn(2, 2))  # what torch.export imports at its first use
    mine = {}
    for name in names:
        mine[name] = ours(name, given.repeats)
        print(f"{name} done", file=sys.stderr)
    peer = theirs(names, given.peer)
    lines = [line(name, mine[name], peer.get(name)) for name in names]
    show("neuron pruning beside Torch-Pruning (TP)", ["", *OURS, *THEIRS], lines)
    write(given.out, "neurons_zoo", {"modelopt": mine, "torch_pruning": peer}, goals(mine, peer))


if __name__ == "__main__":
    main()
