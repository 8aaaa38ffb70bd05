"""Search spaces that do not fit the file: each mistake is told with its line in tuning.space."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bad_experiments import Mistake, check_mistake, refusal

MISTAKES: list[Mistake] = [
    (("training.batch_size:", "training.batchsize:"), "x.yaml:19:5", "did you mean 'training.batch_size'?"),
    (("training.batch_size:", "batch_size:"), "x.yaml:19:5", "did you mean 'training.batch_size'?"),
    (("model.hidden.0", "model.hidden.2"), "x.yaml:20:5", "model.hidden has 2 items (0 to 1)"),
    (("model.hidden.0", "model.hidden.0.x"), "x.yaml:20:5", "model.hidden.0 is the value 128, so nothing lies below"),
    (("training.batch_size:", "tuning.trials:"), "x.yaml:19:5", "a search cannot change 'tuning'"),
    (("training.batch_size: [16, 32]", "training.batch_size: []"), "x.yaml:19:26", "list at least one value"),
    (("[16, 32]", "{choice: []}"), "x.yaml:19:35", "list at least one value"),
    (("[1.0e-4, 1.0]", "[1.0, 1.0e-4]"), "x.yaml:18:36", "low 1.0 is above high 0.0001"),
    (("[1.0e-4, 1.0]", "[0, 1.0]"), "x.yaml:18:37", "a log axis needs low > 0"),
    (("[1.0e-4, 1.0]", "[a, 1.0]"), "x.yaml:18:37", "'a' is no number"),
    (("[1.0e-4, 1.0], log: true", "[1.0e-4, 1.0], lg: true"), "x.yaml:18:51", "Did you mean 'log'?"),
    (("[16, 32]", "[16, 0]"), "x.yaml:19:31", "training.batch_size must be at least 1, but is 0"),
    (("[16, 32]", "[16, x]"), "x.yaml:19:31", "training.batch_size: expected a whole number, got the text 'x'"),
    (("[16, 32]", "{float: [1.0, 2.0]}"), "x.yaml:19:40", "expected a whole number, got the number 2.0"),
    (("[0.0, 0.99]", "[-1.0, 0.99]"), "x.yaml:23:42", "training.optimizer.momentum must be at least 0, but is -1"),
    (("type: adamw", "type: adamv"), "x.yaml:24:18", "unknown optimizer 'adamv'"),
    (("weight_decay:", "weight_decy:"), "x.yaml:24:25", "there is no 'weight_decy' in training.optimizer (adamw)"),
    (("{type: adamw,", "{type: adamw, nestrov: 1,"), "x.yaml:24:25", "unknown key 'nestrov' in training.optimizer"),
    (
        ("type: sgd, momentum: {", "type: sgd, nesterov: true, momentum: {"),
        "x.yaml:23:11",
        "nesterov is true with momentum",
    ),
    (
        ("model.hidden.0", "training.optimizer.nesterov"),
        "x.yaml:20:5",
        "there is no 'nesterov' in training.optimizer (adamw)",
    ),
    (("model.hidden.0", "training.optimizer.nesterov"), "x.yaml:20:5", "search it inside the branches that have it"),
    (("sampler: random", "sampler: grid"), "x.yaml:18:36", "give it a step or a count"),
    (("sampler: random", "initial: [{training.batch_size: 17}]"), "x.yaml:16:35", "17 is none of: 16 | 32"),
    (("sampler: random", "initial: [{training.batchsize: 16}]"), "x.yaml:16:14", "Did you mean 'training.batch_size'?"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake[2][:50] for mistake in MISTAKES])
def test_each_mistake(tmp_path: Path, mistake: Mistake) -> None:
    check_mistake(tmp_path, mistake)


def test_both_ends_of_every_branch_are_tried(tmp_path: Path) -> None:
    message = refusal(tmp_path, ("[0.0, 0.99]", "[0.5, 1.0]"), ("[1.0e-6, 1.0e-1], log: true", "[-1.0, 0.1]"))
    assert "x.yaml:24" in message
    assert "training.optimizer.weight_decay must be at least 0, but is -1" in message
