"""Why a module cannot be captured as a graph: the line of code that stopped it, in plain words, and what to do."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from modelopt_cli.core.imports import describe_user_error, user_frame

_OPERATOR = re.compile(r"= torch\.ops\.([\w.]+)\(")
_UNNAMED = re.compile(r"fake impl registered for <CustomOpDef\((.*?)\)>")
_TORCH, _PYTHON, _OWN = Path(torch.__file__).parent, Path(os.__file__).parent, Path(__file__).parents[2]
_BRANCHES = ("if ", "elif ", "while ", "for ", "assert ")


def explained(error: BaseException, module: nn.Module, example: Tensor, otherwise: str = "") -> str:
    """A sentence or two for what torch.export raised. Runs the module once, to tell its own mistakes apart.

    `otherwise`: what can be done without a graph.
    """
    own = _own_failure(module, example)
    if own is not None:
        return f"the model fails on inputs of shape {tuple(example.shape)}: {own}"
    why, remedy = _cause(error)
    return f"the network cannot be captured as a graph: {_where(error)}{why}. {remedy}{otherwise and f'; {otherwise}'}"


def explained_size(node: fx.Node, otherwise: str) -> str:
    """Why a node of a graph is in the way whose result has a size that depends on the data."""
    lines = re.findall(r'File "(.*?)", line (\d+), in .*\n\s*(.*)', node.meta.get("stack_trace") or "")
    lines = [(file, number, code) for file, number, code in lines if not _inside(file)]
    where = "{}:{}: `{}`: ".format(*lines[-1]) if lines else ""
    operator = ".".join(str(node.target).split(".")[:2])
    return (
        f"the network cannot be analysed: {where}how large the result of operator {operator} is depends on the numbers "
        f"in a tensor. Choose between values with torch.where, which leaves the size as it is; {otherwise}"
    )


@contextmanager
def fixed_sizes() -> Iterator[list[str]]:
    """Collects the lines of code that make a number of a size which is open while a module is captured.

    torch itself only says that some code did so.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    lines: list[str] = []
    patched: Any = ShapeEnv
    replace = patched._set_replacement

    def noted(self: Any, symbol: Any, value: Any, *rest: Any, **more: Any) -> Any:
        if getattr(value, "is_number", False):
            frames = [frame for frame in traceback.extract_stack() if not _inside(frame.filename)]
            lines.extend(f"{frame.filename}:{frame.lineno}: `{frame.line}`" for frame in frames[-1:])
        return replace(self, symbol, value, *rest, **more)

    patched._set_replacement = noted
    try:
        yield lines
    finally:
        patched._set_replacement = replace


def _own_failure(module: nn.Module, example: Tensor) -> str | None:
    try:
        with torch.no_grad():
            module(example)
    except Exception as error:
        return describe_user_error(error)
    return None


def _cause(error: BaseException) -> tuple[str, str]:
    """(what stopped it, what can be done about it)"""
    text, kind = str(error), type(error).__name__
    if kind == "GuardOnDataDependentSymNode":
        return _data_dependent(error)
    if kind == "UnsupportedOperatorException":
        return _unknown(str(getattr(error, "func", "") or text.split("\n")[0]))
    if unnamed := _UNNAMED.search(text):
        return _unknown(unnamed.group(1))
    if ".numpy() is not supported" in text or "data pointer of Tensor" in text:
        return (
            "the numbers of a tensor are taken out of torch there (numpy, or another library), and what happens to "
            "them leaves no trace",
            "Write it with torch's operators",
        )
    if "FakeTensor.__format__" in text:
        return (
            "the numbers of a tensor are written as text there, and while it is captured there are none",
            "Leave the line out, or write it only where torch.compiler.is_exporting() is False",
        )
    if "fake tensor in the exported program" in text:
        return (
            "something is done to a tensor past torch's operators, such as writing to its .data",
            "Write it with torch's operators (torch.where, index_put)",
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{kind}: {first}".rstrip(".: "), "Rewrite it with torch's operators, so that none depends on the data"


def _data_dependent(error: BaseException) -> tuple[str, str]:
    frame = _frame(error)
    line = (frame.line or "") if frame is not None else ""
    operator = _last_operator(str(getattr(error, "partial_fx_graph", "")))
    of = f" (what operator {operator} gives)" if operator else ""
    if line.startswith("assert "):
        return f"it checks the numbers in a tensor{of}, which are not known beforehand", "Leave the check out"
    what = "what runs there" if line.startswith(_BRANCHES) else "what is computed there, or of what size,"
    return (
        f"{what} depends on the numbers in a tensor{of}, but in a graph it is the same for all data",
        "Choose between values with torch.where, or between branches with torch.cond",
    )


def _last_operator(graph: str) -> str:
    """Of a graph printed as code: the operator whose result was read as a number; `` where there is none."""
    operators = [name for name in _OPERATOR.findall(graph) if not name.startswith("aten.sym_")]
    if operators and operators[-1] == "aten.item.default":
        operators.pop()
        if len(operators) > 1 and operators[-1] == "aten.ne.Scalar":  # how torch asks whether a tensor is true
            operators.pop()
    return ".".join(operators[-1].split(".")[:2]) if operators else ""


def _unknown(operator: str) -> tuple[str, str]:
    parts = operator.removesuffix(".default").replace("::", ".").split(".")
    name = "::".join(parts[:2])
    return (
        f"the operator {name} does not say which shape its result has",
        f'Tell it with torch.library.register_fake("{name}")',
    )


def _where(error: BaseException) -> str:
    """`file.py:12: `code`: `, and from where in the user's code where that is a library's; empty where nobody knows."""
    frame, users = _frame(error), user_frame(error)
    if frame is None:
        return ""
    line, code = f"{frame.filename}:{frame.lineno}", f": `{frame.line}`" if frame.line else ""
    caller = "" if users is None else f"{users.filename}:{users.lineno}"
    return f"{line}{code}{f' (called from {caller})' if caller not in ('', line) else ''}: "


def _frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line that is neither torch's, nor Python's, nor modelopt's."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _inside(frame.filename)]
    return frames[-1] if frames else None


def _inside(filename: str) -> bool:
    """Whether a file is torch's, modelopt's or Python's own. What is installed lies in Python's folder too."""
    path = Path(filename)
    installed = "site-packages" in path.parts or "dist-packages" in path.parts
    python = filename.startswith("<") or (not installed and path.is_relative_to(_PYTHON))
    return python or path.is_relative_to(_TORCH) or path.is_relative_to(_OWN)
