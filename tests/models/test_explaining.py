"""What is said of a model that cannot be captured: the line of the user's own code, what stopped it, what to do."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.capture import capture, exported

HEAD = """\
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = self.first(inputs)
"""
Written = Callable[[str], ModuleType]
LINE = len(HEAD.splitlines()) + 1
EXAMPLE = torch.randn(4, 4)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """A module of Python, with these lines in the middle of `forward`, in a folder of its own."""

    def write(lines: str, before: str = "") -> ModuleType:
        path = tmp_path / "mine.py"
        path.write_text(f"{HEAD}{lines}\n        return self.last(hidden)\n{before}")
        spec = importlib.util.spec_from_file_location("mine", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("if hidden.sum() > 0: hidden = hidden * 2", ("aten.gt", "what runs there depends", "torch.where")),
        ("if hidden.max().item() > 1: hidden = hidden * 2", ("aten.max", "what runs there depends", "torch.cond")),
        ("for _ in range(int(inputs[0, 0])): hidden = hidden * 2", ("what runs there depends",)),
        ("count = int((hidden[0] > 0).sum())", ("aten.sum", "what is computed there")),
        ("hidden = hidden.relu() if len(hidden.nonzero()) > 2 else hidden", ("aten.nonzero",)),
        ("assert hidden.isfinite().all()", ("it checks the numbers", "aten.all", "Leave the check out")),
        ("hidden = torch.from_numpy(hidden.numpy() * 2)", ("numpy", "with torch's operators")),
        ("print(f'{hidden.mean():.3f}')", ("written as text", "torch.compiler.is_exporting()")),
        ("hidden = hidden[hidden[:, 0] > 0]", ("aten.index", "how large the result", "torch.where")),
    ],
)
def test_the_line_and_what_stopped_it(
    written: Written, capfd: pytest.CaptureFixture[str], code: str, parts: tuple[str, ...]
) -> None:
    module = written(f"        {code}").Mine()
    with pytest.raises(UsageError) as caught:
        capture(module, EXAMPLE)
    message = str(caught.value)
    for part in (f"mine.py:{LINE}: `{code}`", *parts, "pruning.structure: weights needs no graph"):
        assert part in message
    assert "/torch/" not in message
    assert message.count("\n") == 0
    assert capfd.readouterr() == ("", ""), "torch prints the graph so far, and warnings"
    assert module.training, "the module is as it was"


def test_where_a_library_is_stopped_both_lines_are_told(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "theirs.py"
    installed.parent.mkdir()
    installed.write_text("def choose(hidden):\n    return hidden if hidden.sum() > 0 else -hidden\n")
    monkeypatch.syspath_prepend(str(installed.parent))
    module = written("        import theirs\n        hidden = theirs.choose(hidden)").Mine()
    with pytest.raises(UsageError) as caught:
        capture(module, EXAMPLE)
    assert "theirs.py:2: `return hidden if hidden.sum() > 0 else -hidden` (called from " in str(caught.value)
    assert f"mine.py:{LINE + 1})" in str(caught.value)


def test_an_operator_that_does_not_tell_its_shape(written: Written) -> None:
    code = "hidden = torch.ops.modelopt_test.twice(hidden)"
    with torch.library._scoped_library("modelopt_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x * 2, "CPU")
        with pytest.raises(UsageError) as caught:
            capture(written(f"        {code}").Mine(), EXAMPLE)
    for part in (f"mine.py:{LINE}: `{code}`", 'torch.library.register_fake("modelopt_test::twice")'):
        assert part in str(caught.value)


def test_a_model_that_fails_by_itself_is_not_the_graphs_fault(written: Written) -> None:
    with pytest.raises(UsageError) as caught:
        exported(written("        raise KeyError('no')").Mine(), EXAMPLE)
    message = str(caught.value)
    assert message.startswith("the model fails on inputs of shape (4, 4): ")
    assert message.endswith(f"mine.py:{LINE}: KeyError: 'no'")


def test_what_stops_nothing(written: Written, capfd: pytest.CaptureFixture[str]) -> None:
    """Data that are printed, or kept, or read as a number that nothing is decided by."""
    for code in ("print(hidden.mean())", "self.kept = hidden", "hidden = hidden / hidden.abs().max().item()"):
        capture(written(f"        {code}").Mine(), EXAMPLE)
    assert capfd.readouterr() == ("", "")


def test_a_batch_of_one() -> None:
    with pytest.raises(UsageError, match="give at least 2 samples"):
        capture(nn.Linear(4, 2), EXAMPLE[:1])


def test_past_torch_operators(written: Written) -> None:
    with pytest.raises(UsageError, match=r"such as writing to its \.data"):
        exported(written("        hidden.data[:, 0] = 0").Mine(), EXAMPLE)
