"""The command line, called as a user would, in this process; the fixtures are in tests/cli/conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CONFIGS = Path(__file__).parents[2] / "configs"

# Small enough to search in a second.
QUICK = """\
version: 1
name: quick
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training: {epochs: 3, batch_size: 32, optimizer: {type: adam, lr: 0.01}}
tuning:
  objective: maximize validation.accuracy
  sampler: random
  trials: 4
  executor: serial
  space:
    training.optimizer.lr: {float: [1.0e-3, 0.1], log: true}
    model.hidden.0: [4, 8, 16]
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]
