"""Inside a package, too, imports have an order and no circle; lazy and type-only ones are counted with the others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import modelopt_cli

ROOT = Path(modelopt_cli.__file__).parent
MODULES = {
    ".".join(("modelopt_cli", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

# From the ground up: a folder imports from those before it in its list, and from itself. Folders that share a line
# do not import each other. "" is the package's own files, but for those that are named like a folder.
ORDER: dict[str, list[set[str]]] = {
    "tuning": [
        {"trials"},
        {"space"},
        {"samplers", "executors"},
        {"stoppers", "exchange"},
        {"analysis", "schedulers"},
        {"study"},
        {"search"},
    ],
    "pruning": [
        {"common"},
        {"importances", "structures", "allocations", "schedules", "compensations"},
        {""},
        {"weights", "units"},
    ],
    "quantization": [
        {"layers", "file_module", "agreement"},
        {"onnx", "torchao"},
        {"methods"},
        {""},
    ],
    "workflows": [
        {"shared"},
        {"runs"},
        {"distillation"},
        {"pruning"},
        {"quantization"},
        {"factory"},
        {"search"},
        {"comparison"},
        {"inspect", "watch", ""},
    ],
    "experiment": [
        {"document"},
        {"command", "evaluation", "recovery", "quantization", "consent"},
        {"sections"},
        {"expected_metrics", "search_space"},
        {"checks"},
        {"experiment"},
        {"schema"},
    ],
    "cli": [{"render"}, {""}, {"commands"}],
}
CIRCLES: set[str] = set()
"""A module of each circle that stands for now. This may only shrink."""
UPWARDS: set[str] = set()
"""Imports against the order that stand for now. This may only shrink."""


def imported(module: str) -> Iterator[str]:
    """Every module of the project that `module` imports, wherever the import stands."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "modelopt_cli":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


@cache
def graph_of_modules() -> dict[str, set[str]]:
    """What each module imports; read by the process that asks, not by all that collect."""
    return {module: set(imported(module)) - {module} for module in MODULES}


def circles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """Strongly connected components of more than one module (Tarjan 1972, without recursion by repeated reaching)."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in graph[waiting.pop()] - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    reach = {module: reached(module) for module in graph}
    return sorted(
        {
            frozenset(other for other in reach[module] if module in reach[other])
            for module in graph
            if module in reach[module]
        },
        key=sorted,
    )


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(graph) == [frozenset("abc")]


def test_no_module_imports_itself_by_way_of_others() -> None:
    standing = circles(graph_of_modules())
    new = [sorted(one) for one in standing if not one & CIRCLES]
    assert not new, "new circles:\n" + "\n".join(map(str, new))
    dissolved = CIRCLES - frozenset[str]().union(*standing)
    assert not dissolved, f"these are in no circle any more; take them off the list: {sorted(dissolved)}"


def test_folders_of_a_package_have_an_order() -> None:
    wrong: set[str] = set()
    for package, order in ORDER.items():
        level = {folder: number for number, folders in enumerate(order) for folder in folders}
        for module, targets in graph_of_modules().items():
            for target in targets:
                parts, others = module.split("."), target.split(".")
                if module == "modelopt_cli.cli.main":  # joins the commands
                    continue
                if parts[1:2] != [package] or others[1:2] != [package] or len(parts) < 3 or len(others) < 3:
                    continue
                here, there = (names[2] if len(names) > 3 or names[2] in level else "" for names in (parts, others))
                if here not in level or there not in level:  # a package's flat files, where it has no level for them
                    continue
                if here != there and level[there] >= level[here]:
                    wrong.add(f"{module} imports {target}")
    assert not wrong - UPWARDS, "\n".join(sorted(wrong - UPWARDS))
    assert not UPWARDS - wrong, f"these are gone; take them off the list: {sorted(UPWARDS - wrong)}"
