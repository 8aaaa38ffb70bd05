"""The layers of the house: imports point down only, and heavy packages stay out of what must start fast."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import modelopt_cli
from modelopt_cli.core.strategy import FAMILIES

ROOT = Path(modelopt_cli.__file__).parent
LEVEL = {
    "core": 0,
    "results": 1,
    "models": 2,
    "data": 2,
    "training": 3,
    "tuning": 4,
    "pruning": 4,
    "distillation": 4,
    "quantization": 4,
    "experiment": 5,
    "workflows": 6,
    "api": 7,
    "cli": 7,
}
HEAVY = {
    "torch",
    "numpy",
    "sklearn",
    "skopt",
    "scipy",
    "pandas",
    "PIL",
    "pyarrow",
    "skops",
    "safetensors",
    "cmaes",
    "mlflow",
    "tensorboard",
    "trackio",
    "wandb",
    "optuna",
    "onnx",
    "onnxruntime",
    "torchao",
}
MODULES = sorted(ROOT.rglob("*.py"))


def imports(path: Path, *, top_only: bool = False) -> list[tuple[int, str]]:
    """(line, module) of every import outside `if TYPE_CHECKING`; of the module's top level only on request."""
    tree = ast.parse(path.read_text())
    statements: list[tuple[int, str]] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            statements.extend((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            statements.append((node.lineno, node.module or ""))
            statements.extend((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        if top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return statements


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.slow
@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = package_of(path)
    if here == "__init__":
        return
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "modelopt_cli" or len(parts) < 2 or parts[1] not in LEVEL:
            continue
        there = parts[1]
        sibling = there != here and LEVEL[there] == LEVEL[here] and {here, there} != {"models", "data"}
        assert LEVEL[there] <= LEVEL[here], f"{path}:{line}: {here} imports {module}, which lies above it"
        assert not sibling, f"{path}:{line}: {here} imports its sibling {there}"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_strategies_and_settings_import_nothing_heavy(family: object) -> None:
    folder = ROOT.joinpath(*family.package.split(".")[1:])  # type: ignore[attr-defined]
    for path in folder.glob("*.py"):
        if path.name.startswith("_") and path.name != "__init__.py":
            continue
        heavy = [(line, module) for line, module in imports(path, top_only=True) if module.split(".")[0] in HEAVY]
        assert not heavy, f"{path} imports {heavy} at module level"


@pytest.mark.slow
def test_only_render_imports_rich() -> None:
    for path in MODULES:
        users = [module for _, module in imports(path) if module.split(".")[0] == "rich"]
        assert not users or path.is_relative_to(ROOT / "cli" / "render"), f"{path} imports {users}"


@pytest.mark.slow
def test_only_the_command_line_prints() -> None:
    for path in MODULES:
        if package_of(path) == "cli":
            continue
        calls = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ]
        assert not calls, f"{path}: print in lines {calls}"
