"""What is said of a section that is not valid: its line, the rule and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.experiment.experiment import Experiment
from tests.support.bad_experiments import Mistake, check_mistake, refusal, write


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert Experiment.load(write(tmp_path)).name == "x"


def test_an_error_as_it_is_shown(tmp_path: Path) -> None:
    assert refusal(tmp_path, ("lr: 0.05", "lerning_rate: 0.1")) == (
        "x.yaml:12:26: unknown key 'lerning_rate' in training.optimizer (sgd)\n"
        "   12 |   optimizer: {type: sgd, lerning_rate: 0.1, momentum: 0.9}\n"
        "      |                          ^^^^^^^^^^^^\n"
        "did you mean 'lr'? known keys: type, lr, momentum, dampening, weight_decay, nesterov, foreach, fused"
    )


MISTAKES: list[Mistake] = [
    (("training:", "trainig:"), "x.yaml:9:1", "unknown key 'trainig' in an experiment"),
    (("training:", "trainig:"), "x.yaml:9:1", "did you mean 'training'?"),
    (("seed: 0}", "sed: 0}"), "x.yaml:5:40", "unknown key 'sed' in data.splits"),
    (("version: 1", "version: 2"), "x.yaml:1:10", "version must be 1; got the number 2"),
    (("epochs: 30", 'epochs: "30"'), "x.yaml:10:11", "expected a whole number, got the text '30'"),
    (("epochs: 30", 'epochs: "30"'), "x.yaml:10:11", "write 30, without quotes"),
    (("epochs: 30", "epochs: 2.5"), "x.yaml:10:11", "expected a whole number, got the number 2.5"),
    (("epochs: 30", "epochs: 0"), "x.yaml:10:11", "training.epochs must be at least 1, but is 0"),
    (("epochs: 30", "epochs: null"), "x.yaml:10:11", "expected a whole number, got nothing (null)"),
    (("epochs: 30", "epochs: [1]"), "x.yaml:10:11", "expected a whole number, got a list"),
    (("epochs: 30", "epochs: 100_000"), "x.yaml:10:11", "write 100000 (YAML 1.2 has no digit groups)"),
    (("lr: 0.05", "lr: '0.05'"), "x.yaml:12:30", "expected a number, got the text '0.05'"),
    (("lr: 0.05", "lr: .inf"), "x.yaml:12:30", "must be a finite number"),
    (("epochs: 30", "shuffle: yes"), "x.yaml:10:12", "write true (in YAML 1.2, yes is text)"),
    (("epochs: 30", "loss: entropy"), "x.yaml:10:9", "did you mean 'cross_entropy'?"),
    (("epochs: 30", "monitor: 5"), "x.yaml:10:12", "expected text, got the number 5"),
    (("epochs: 30", "class_weights: 7"), "x.yaml:10:18", "expected balanced or a list, got the number 7"),
    (("epochs: 30", "class_weights: [1, a]"), "x.yaml:10:22", "training.class_weights.1: expected a number"),
    (("[128, 64]", "128"), "x.yaml:8:11", "expected a list, got the number 128"),
    (("[128, 64]", "128"), "x.yaml:8:11", "write [128]"),
    (("[128, 64]", "[128, x]"), "x.yaml:8:17", "model.hidden.1: expected a whole number"),
    (("validation: 0.2", "validation: 1.5"), "x.yaml:5:24", "must be below 1, but is 1.5"),
    (("validation: 0.2", "validation: a"), "x.yaml:5:24", "expected a number or a list, got the text 'a'"),
    (("type: digits", "type: digts"), "x.yaml:4:9", "unknown data type 'digts'. Did you mean 'digits'?"),
    (("type: mlp", "type: mpl"), "x.yaml:7:9", "Did you mean 'mlp'?"),
    (("type: mlp", "typ: mlp"), "x.yaml:7:3", "a model type needs 'type'"),
    (("type: sgd, lr", "type: sdg, lr"), "x.yaml:12:21", "unknown optimizer 'sdg'. Did you mean 'sgd'?"),
    (("schedule: cosine", "schedule: cosin"), "x.yaml:13:13", "Did you mean 'cosine'?"),
    (("schedule: cosine", "schedule: [1]"), "x.yaml:13:13", "[1] is no learning-rate schedule"),
    (("sampler: random", "executor: seriall"), "x.yaml:16:13", "unknown executor 'seriall'. Did you mean 'serial'?"),
    (("seed: 0\ndata", "device: gpu\ndata"), "x.yaml:2:9", "'gpu' is no device; write auto, cpu, cuda or cuda:N"),
    (("seed: 0\ndata", "seed: -1\ndata"), "x.yaml:2:7", "seed must be at least 0, but is -1"),
    (("seed: 0\ndata", "name: a/b\ndata"), "x.yaml:2:7", "the name 'a/b' cannot be a folder's"),
    (("seed: 0\ndata", "name: ..\ndata"), "x.yaml:2:7", "cannot be a folder's"),
    (("seed: 0\ndata", "gates: [acc >= 1, acc]\ndata"), "x.yaml:2:19", "gates.1: 'acc' is no condition"),
    (("seed: 0\ndata", "evaluation: {cv: 1}\ndata"), "x.yaml:2:18", "evaluation.cv must be at least 2, but is 1"),
    (("seed: 0\ndata", "evaluation: {repeats: 2}\ndata"), "x.yaml:2:13", "there are no folds to repeat; set cv"),
    (("seed: 0\ndata", "evaluation: {metrics: [a.b]}\ndata"), "x.yaml:2:24", "Did you mean 'a:b'?"),
    (("maximize validation", "validation"), "x.yaml:15:14", "'validation.accuracy' is no objective"),
    (("maximize validation", "maximize test"), "x.yaml:15:14", "looks at the test split"),
    (("objective: maximize validation.accuracy", "trials: 3"), "x.yaml:14:1", "tuning lacks the key 'objective'"),
    (("sampler: random", "constraints: [a]"), "x.yaml:16:16", "'a' is no condition"),
    (("sampler: random", "workflow: trian"), "x.yaml:16:13", "did you mean 'train'?"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake[2][:50] for mistake in MISTAKES])
def test_each_mistake(tmp_path: Path, mistake: Mistake) -> None:
    check_mistake(tmp_path, mistake)


def test_the_remedy_for_a_number_in_place_of_a_list_has_as_many_items_as_are_needed() -> None:
    with pytest.raises(ExperimentError, match=r"write \[16, 16\]"):
        Experiment.load({"version": 1, "data": {"type": "images", "path": "x", "size": 16}})
    with pytest.raises(ExperimentError, match=r"write \[8\]"):
        Experiment.load({"version": 1, "model": {"type": "mlp", "hidden": 8}})
