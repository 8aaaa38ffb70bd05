"""What an allocation will cost stands in the plan, and what it has cost in the report."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from modelopt_cli.cli.render import plan
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.pruning.units import cut_store
from modelopt_cli.workflows import compress, prune, train, tune
from modelopt_cli.workflows.shared.context import Context

UNITS = {"structure": "neurons", "budget": {"flops": "50%"}, "calibration": 60}
WEIGHTS = {"amount": 0.5, "calibration": 60}


def experiment(**pruning: Any) -> Experiment:
    return Experiment.load(
        {
            "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
            "model": {"type": "mlp", "hidden": [24, 20, 16]},
            "training": {"epochs": 2, "batch_size": 16},
            "pruning": pruning,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("section", [UNITS, WEIGHTS], ids=["units", "weights"])
@pytest.mark.parametrize("allocation", ["divergence", "sensitivity"])
def test_the_plan_foresees_the_passes_that_the_report_tells(section: dict[str, Any], allocation: str) -> None:
    cut_store.forget()
    chosen = experiment(**section, allocation=allocation)
    foreseen = prune.dry_run(chosen, Context()).plan
    probed = prune.run(chosen, Context()).details["probed"]
    assert foreseen["allocation_seconds"] > 0
    assert foreseen["allocation_passes"] / 2 <= probed["passes"] <= 2 * foreseen["allocation_passes"]
    assert probed["cuts"] >= 3


@pytest.mark.slow
def test_an_allocation_that_tries_nothing_out_costs_nothing() -> None:
    chosen = experiment(**UNITS, allocation="global")
    assert not {name for name in prune.dry_run(chosen, Context()).plan if name.startswith("allocation")}
    assert "probed" not in prune.run(chosen, Context()).details


@pytest.mark.slow
def test_each_round_pays_anew() -> None:
    """The network is another one then; three rounds cost about three times as much."""
    once = prune.dry_run(experiment(**UNITS, allocation="divergence"), Context()).plan
    rounds = {"schedule": {"type": "rounds", "rounds": 3}, "recovery": {"epochs": 1}}
    often = prune.dry_run(experiment(**UNITS, **rounds, allocation="divergence"), Context()).plan
    assert often["allocation_passes"] == pytest.approx(3 * once["allocation_passes"])


@pytest.mark.slow
def test_trials_that_prune_one_network_share_what_was_measured(tmp_path: Path) -> None:
    """The second one takes another amount, so it looks at the same first levels; a third with the same none at all."""
    trained = train.run(experiment(**UNITS), Context()).model
    assert trained is not None
    checkpoints.save(tmp_path / "dense.pt", trained)
    model = {"type": "checkpoint", "path": str(tmp_path / "dense.pt")}
    cut_store.forget()
    passes = []
    for seed, share in enumerate(("50%", "40%", "40%")):
        chosen = experiment(**{**UNITS, "budget": {"flops": share}}, allocation="divergence")
        chosen = chosen.with_values({"model": model, "seed": seed})
        passes.append(prune.run(chosen, Context()).details["probed"]["passes"])
    assert passes[0] > passes[1]
    assert passes[2] == 0


SEARCH = {"workflow": "prune", "objective": "maximize validation.accuracy", "trials": 2, "executor": "serial"}


def searched(space: dict[str, Any], **pruning: Any) -> Experiment:
    whole = experiment(**pruning).model_dump(mode="json", exclude_unset=True)
    return Experiment.load({**whole, "tuning": {**SEARCH, "space": space}})


@pytest.mark.slow
def test_the_plan_of_a_search_tells_what_its_dearest_allocation_takes() -> None:
    """As the plan of a prune with that allocation does; where none of the space tries cuts out, nothing is told."""
    dearest = tune.dry_run(searched({"pruning.allocation": ["global", "divergence"]}, **UNITS), Context())
    alone = prune.dry_run(experiment(**UNITS, allocation="divergence"), Context()).plan
    assert dearest.plan["allocation_passes"] == pytest.approx(alone["allocation_passes"])
    assert dearest.plan["trial_seconds"] > dearest.plan["allocation_seconds"] > 0
    shown = StringIO()
    plan.render(Console(file=shown, width=200), dearest, quiet=False)
    assert f"at most about {alone['allocation_passes']:,.0f} passes over its samples" in shown.getvalue()
    cheap = tune.dry_run(searched({"pruning.allocation": ["global", "uniform"]}, **UNITS), Context())
    assert not {name for name in cheap.plan if name.startswith("allocation")}


@pytest.mark.slow
def test_the_plan_of_a_compression_tells_what_its_pruning_takes() -> None:
    alone = prune.dry_run(experiment(**UNITS, allocation="divergence"), Context()).plan
    whole = compress.dry_run(experiment(**UNITS, allocation="divergence"), Context()).plan
    assert whole["allocation_passes"] == pytest.approx(alone["allocation_passes"])
    assert whole["estimated_seconds"] > sum(whole["members"].values())
