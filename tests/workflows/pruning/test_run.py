"""A pruning as a run: resumed at every step, budgets, lottery tickets, cubic pruning, batch normalisation."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import prune as torch_prune

from modelopt_cli.core.errors import UsageError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.training.trainer import Trainer
from modelopt_cli.workflows.pruning.masked import MaskedModel
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

SGD = {"type": "sgd", "lr": 0.1, "momentum": 0.9}


def experiment(pruning: dict[str, Any], **sections: Any) -> Experiment:
    return Experiment.load(
        {
            "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
            "model": {"type": "mlp", "hidden": [16, 12], "batch_norm": True, "dropout": 0.1},
            "training": {"epochs": 3, "batch_size": 16, "optimizer": SGD},
            "pruning": pruning,
            **sections,
        }
    )


def opened(chosen: Experiment, state: Any = None, seed: int = 3) -> PruneRun:
    return PruneRun(chosen, data_cache.prepared_data(chosen), seed=seed, state=state)


def finished(chosen: Experiment, state: Any = None) -> PruneRun:
    run = opened(chosen, state)
    while run.step < run.total:
        run.advance(run.step + 1)
    return run


def masked(run: PruneRun) -> MaskedModel:
    """What prunes it, for runs of masks."""
    assert isinstance(run.model, MaskedModel)
    return run.model


def through_a_file(state: Any) -> Any:
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def weights(run: PruneRun) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in run.module.state_dict().items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def outcome(run: PruneRun) -> dict[str, Any]:
    metrics = {**run.metrics(), **run.test_metrics()}
    tables = {name: table.rows for name, table in run.tables().items()}
    return {"tables": tables, "metrics": {name: value for name, value in metrics.items() if name != "train.seconds"}}


RECOVERY = {"epochs": 2, "lr": 0.02}
OTHER = {"epochs": 2, "optimizer": {"type": "adam", "lr": 0.01}}
TWICE = {"type": "rounds", "rounds": 2}
CUBIC = {"schedule": {"type": "cubic", "rounds": 6}, "recovery": {**RECOVERY, "epochs": 3}}
BEST = {**RECOVERY, "epochs": 3, "lr": 0.5, "keep": "best"}
UPDATED = {"compensation": "least_squares", "calibration": 30, "recalibrate_batch_norm": True}
COURSES: dict[str, dict[str, Any]] = {
    "one shot": {"amount": 0.7},
    "one shot, recovered": {"amount": 0.7, "recovery": RECOVERY},
    "rounds": {"amount": 0.8, "schedule": {"type": "rounds", "rounds": 3}, "recovery": RECOVERY},
    "rounds by taylor": {
        "amount": 0.8,
        "importance": "taylor",
        "schedule": TWICE,
        "recovery": OTHER,
        "calibration": 40,
    },
    "rounds, muon": {"amount": 0.8, "schedule": TWICE, "recovery": {"epochs": 1, "optimizer": "muon"}},
    "rounds, least squares": {"amount": 0.8, "schedule": TWICE, "recovery": RECOVERY, **UPDATED},
    "best of recovery": {"amount": 0.8, "schedule": TWICE, "recovery": BEST},
    "cubic": {"amount": 0.8, **CUBIC},
    "cubic by taylor": {"amount": 0.8, "importance": "taylor", "calibration": 30, **CUBIC},
    "movement": {"amount": 0.6, "importance": "movement", "schedule": TWICE, "recovery": RECOVERY},
    "movement, another optimizer": {"amount": 0.6, "importance": "movement", "recovery": OTHER},
    "lottery": {"amount": 0.7, "schedule": {"type": "lottery", "rounds": 2, "rewind": 1}},
    "lottery from the start": {"amount": 0.7, "schedule": {"type": "lottery", "rounds": 2}},
    "bytes": {"budget": {"size_bytes": "90%"}, "recovery": RECOVERY},
    "initial": {"amount": 0.5, "importance": "snip", "start": "initial"},
    "sensitivity": {"amount": 0.5, "allocation": {"type": "sensitivity", "levels": [0.5, 0.9]}, "recovery": RECOVERY},
}
KEPT: dict[str, Any] = {"epochs": 4, "batch_size": 16, "optimizer": {"type": "sgd", "lr": 2.0}, "keep": "best"}
STOPPED: dict[str, Any] = {**KEPT, "epochs": 8, "patience": 1}


CASES = [
    *((course, {}) for course in COURSES),
    *((course, {"training": KEPT}) for course in ("one shot", "rounds, least squares", "movement", "lottery")),
    *((course, {"training": STOPPED}) for course in ("one shot", "best of recovery", "cubic by taylor", "lottery")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("course", "sections"), CASES, ids=[f"{course} {len(sections)}" for course, sections in CASES])
def test_resumed_at_every_step_it_ends_the_same_bit_for_bit(course: str, sections: dict[str, Any]) -> None:
    chosen = experiment(COURSES[course], **sections)
    whole = finished(chosen)
    expected, results = weights(whole), outcome(whole)
    watched = opened(chosen)
    saved = [through_a_file(watched.state())]
    while watched.step < watched.total:
        watched.advance(watched.step + 1)
        saved.append(through_a_file(watched.state()))
    assert_same(weights_at_the_end(watched), expected)
    assert outcome(watched) == results, "looking at the state changes nothing"
    for step, state in enumerate(saved):
        resumed = opened(chosen, state)
        assert resumed.step == step
        resumed = finished(chosen, state)
        assert_same(weights_at_the_end(resumed), expected)
        assert outcome(resumed) == results, f"resumed at step {step}"


def weights_at_the_end(run: PruneRun) -> dict[str, Tensor]:
    run.metrics()
    return weights(run)


def test_the_masks_are_torchs_global_unstructured_of_the_same_trained_model() -> None:
    chosen = experiment({"amount": 0.7})
    run = finished(chosen)
    dense = TorchRun(chosen, data_cache.prepared_data(chosen), seed=3)
    dense.advance(3)
    layers = {name.removesuffix(".weight"): mask for name, mask in masked(run).masking.masks.items()}
    modules = dict(dense.trainer.module.named_modules())
    pairs = [(modules[name], "weight") for name in layers]
    torch_prune.global_unstructured(pairs, pruning_method=torch_prune.L1Unstructured, amount=0.7)
    assert len(layers) == 3
    for name, mask in layers.items():
        (own, expected) = (run.module.get_submodule(name), modules[name])
        assert torch.equal(mask, expected.get_buffer("weight_mask").bool())
        assert torch.equal(own.get_parameter("weight"), getattr(expected, "weight"))  # noqa: B009


@pytest.mark.parametrize("recovery", [None, RECOVERY])
def test_a_budget_of_weights_is_met_to_the_weight(recovery: dict[str, Any] | None) -> None:
    for budget, left in ((200, 200), ("60%", round(0.6 * 403)), ("100%", 403)):
        run = finished(experiment({"budget": {"nonzero": budget}, "recovery": recovery}, model=MLP))
        assert sum(int(parameter.count_nonzero()) for parameter in run.module.parameters()) == left


MLP = {"type": "mlp", "hidden": [24, 10]}  # 4*24 + 24 + 24*10 + 10 + 10*3 + 3 = 403 parameters


def test_a_budget_below_what_may_not_go_is_refused() -> None:
    with pytest.raises(UsageError, match=r"budget\.nonzero is 5, but 37 of the 403 parameters may not go"):
        opened(experiment({"budget": {"nonzero": 5}}, model=MLP))


@pytest.mark.slow
@pytest.mark.parametrize("recovery", [None, RECOVERY])
def test_a_budget_of_bytes_holds_for_the_compressed_file(recovery: dict[str, Any] | None) -> None:
    import zlib

    model = {"type": "mlp", "hidden": [100, 100]}
    dense = experiment({"amount": 0.0}, model=model)
    whole = finished(dense).metrics()["model.compressed_bytes"]
    for asked in (round(0.5 * whole), "40%"):
        run = finished(experiment({"budget": {"size_bytes": asked}, "recovery": recovery}, model=model))
        limit = asked if isinstance(asked, int) else 0.4 * whole
        stream = io.BytesIO()
        # private: what a file holds, whatever is written around it
        torch.save(checkpoints._content(run.checkpoint({**run.metrics(), **run.test_metrics()})), stream)
        size = len(zlib.compress(stream.getvalue(), 1))
        assert 0.85 * limit < size <= limit


def test_a_budget_of_bytes_that_nothing_meets_is_refused() -> None:
    with pytest.raises(UsageError, match=r"even with 99\.9% of the weights gone"):
        finished(experiment({"budget": {"size_bytes": 100}}))


@pytest.mark.parametrize("rewind", [0, 1])
def test_a_winning_ticket_is_trained_from_the_early_weights_on_the_same_batches(rewind: int) -> None:
    chosen = experiment({"amount": 0.6, "schedule": {"type": "lottery", "rounds": 2, "rewind": rewind}})
    data = data_cache.prepared_data(chosen)
    run = finished(chosen)
    early = TorchRun(chosen, data, seed=3)
    early.advance(rewind)
    masking = masked(run).masking
    module = early.trainer.module
    from modelopt_cli.pruning.weights.masking import Masking

    own = Masking({name: dict(module.named_parameters())[name] for name in masking.masks}, masking.masks)
    by_hand = Trainer(module, chosen.require_training(), data, seed=3, device="cpu", hooks=[own])
    by_hand.load_state({**early.trainer.state(), "module": {k: v.clone() for k, v in module.state_dict().items()}})
    by_hand.advance(3)
    assert_same(weights(run), {name: tensor.detach() for name, tensor in module.state_dict().items()})


def test_movement_is_that_of_the_epochs_before_the_pruning() -> None:
    run = opened(experiment(COURSES["movement, another optimizer"]))
    run.advance(4)
    sums = run.state()["course"]["model"]["movement"]
    run.advance(5)
    for name, mask in masked(run).masking.masks.items():
        assert bool(sums[name].any())
        if bool(mask.any()) and not bool(mask.all()):
            assert float(sums[name][~mask].max()) <= float(sums[name][mask].min())


def test_cubic_reaches_its_amount_before_recovery_ends_and_never_goes_back() -> None:
    run = opened(experiment({**COURSES["cubic"], "recovery": {"epochs": 4}}))
    shares = []
    while run.step < run.total:
        run.advance(run.step + 1)
        zeroed, total = masked(run).masking.counts
        shares.append(zeroed / total)
    assert shares == sorted(shares)
    assert shares[:4] == [0.0] * 4
    assert shares[-2] == shares[-1] == pytest.approx(0.8, abs=0.002)


def test_recalibrated_batch_normalisation_has_the_plain_means_of_the_samples() -> None:
    pruning = {"amount": 0.5, "recalibrate_batch_norm": True, "calibration": 48}
    run = finished(experiment(pruning))
    module, inputs = run.module.eval(), torch.cat([batch.inputs for batch in run.trainer.samples(48)])
    seen: list[Tensor] = []
    norm = next(layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm1d))
    norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    module(inputs)
    torch.testing.assert_close(norm.running_mean, seen[0].mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    spread = torch.stack([part.var(0) for part in torch.split(seen[0], 16)]).mean(0)
    torch.testing.assert_close(norm.running_var, spread, rtol=1e-4, atol=1e-5)
