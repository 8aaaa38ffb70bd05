"""What every logger keeps of a run, read back through its own package (tests/support/logger_readers.py)."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

from modelopt_cli.core.errors import MissingExtraError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.results.deliveries.delivery import Delivery
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Logger, Points
from tests.support.logger_readers import READERS, Kept, read

NAMES = FAMILIES["loggers"].names()
HOSTILE = "<script>alert(1)</script>`é\x1b[31m %\n#'\"\\"
LONG = "x" * 7000
FAILED = {"tensorboard": "2", "mlflow": "FAILED", "wandb": "1", "trackio": ""}
COMPLETED = {"tensorboard": "1", "mlflow": "FINISHED", "wandb": "0", "trackio": ""}


def logger_of(name: str) -> Logger:
    strategy = FAMILIES["loggers"].get(name)
    assert issubclass(strategy, Logger)
    if importlib.util.find_spec(strategy.package) is None:
        pytest.skip(f"{strategy.package} is not installed (extra {strategy.extra})")
    return strategy.model_validate({"wait": 120.0})


Records = list[Begun | Points | Ended]


def keep(name: str, root: Path, records: Records) -> None:
    folder = root / "n" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    delivery = Delivery(logger_of(name), Location("n", "n/1", folder, root))
    for record in records:
        delivery.put(record)
    delivery.close()
    assert list(delivery.warnings) == []
    assert delivery.where


def own(kept: dict[str, Kept]) -> Kept:
    """The run itself."""
    return kept["run"] if "run" in kept else kept["n/1"]


def test_every_logger_has_a_reader() -> None:
    assert set(NAMES) <= set(READERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_package_that_is_missing_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = FAMILIES["loggers"].get(name)()
    assert isinstance(logger, Logger)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'modelopt-cli\[{logger.extra}\]'"):
        logger.check()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_search_with_its_trials(name: str, tmp_path: Path) -> None:
    records: Records = [Begun(OWN, {"tuning.trials": 2, "shuffle": True}, {"modelopt.seed": "3"})]
    for number, lr in enumerate((0.1, 0.5)):
        name_of_trial = f"trial-{number}"
        records += [
            Begun(name_of_trial, {"training.optimizer.lr": lr}),
            Points(name_of_trial, [(1, {"validation.accuracy": 0.5}), (2, {"validation.accuracy": 0.75})]),
        ]
        records.append(Points(OWN, [(number + 1, {"best/validation.accuracy": 0.75})]))
        metrics = {"final/validation.accuracy": 0.8125}
        records.append(
            Ended(name_of_trial, "failed" if number else "completed", "it diverged" if number else "", metrics)
        )
    records.append(Ended(OWN, "completed", "", {"final/test.accuracy": 0.625}, {"modelopt.gate.1": "a >= 0.5: met"}))
    keep(name, tmp_path, records)

    kept = read(name, tmp_path)
    assert len(kept) == 3
    search, first, second = own(kept), kept["trial-0"], kept["trial-1"]
    assert [float(trial["settings"]["training.optimizer.lr"]) for trial in (first, second)] == [0.1, 0.5]
    assert float(search["settings"]["tuning.trials"]) == 2
    for trial in (first, second):
        assert trial["curves"]["validation.accuracy"] == [[1, 0.5], [2, 0.75]]
        assert trial["final"]["final/validation.accuracy"] == 0.8125
        assert trial["group"] in ("", "n/1") or trial["group"] == search["group"]
    assert search["curves"]["best/validation.accuracy"] == [[1, 0.75], [2, 0.75]]
    assert search["final"]["final/test.accuracy"] == 0.625
    assert (search["status"], first["status"]) == (COMPLETED[name], COMPLETED[name])
    assert second["status"] == FAILED[name]
    assert any("it diverged" in text for text in second["texts"])
    assert any("a >= 0.5: met" in text for text in search["texts"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_odd_numbers_names_and_texts(name: str, tmp_path: Path) -> None:
    odd = {"nan": math.nan, "inf": math.inf, HOSTILE: 1.0, HOSTILE.replace("%", "&"): 2.0, "_own": 3.0}
    keep(
        name,
        tmp_path,
        [
            Begun(OWN, {"long": LONG, HOSTILE: HOSTILE, "_private": 1, "none": None}, {"tag": HOSTILE}),
            Points(OWN, [(1, {"loss": 1.0, **odd}), (2, {"loss": 0.5})]),
            Ended(OWN, "stopped", HOSTILE, {"final/loss": 0.5, "final/nan": math.nan}, {HOSTILE: HOSTILE}),
        ],
    )
    kept = own(read(name, tmp_path))
    assert kept["curves"]["loss"] == [[1, 1.0], [2, 0.5]]
    assert kept["final"]["final/loss"] == 0.5
    assert sorted(points[0][1] for points in kept["curves"].values() if points[0][1] in (1.0, 2.0, 3.0)) == [1, 1, 2, 3]
    assert str(kept["settings"]["long"]).startswith("x" * 500)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_is_the_same_run(name: str, tmp_path: Path) -> None:
    begun = Begun(OWN, {"trials": 1})
    first: Records = [Begun("trial-0", {"lr": 0.1}), Points("trial-0", [(1, {"loss": 1.0})])]
    keep(name, tmp_path, [begun, *first, Ended("trial-0", "interrupted"), Ended(OWN, "interrupted")])
    rest: Records = [Points("trial-0", [(1, {"loss": 1.0}), (2, {"loss": 0.5})]), Ended("trial-0", "completed")]
    keep(name, tmp_path, [begun, first[0], *rest, Points(OWN, [(1, {"best/loss": 0.5})]), Ended(OWN, "completed")])
    kept = read(name, tmp_path)
    assert len(kept) == 2
    assert kept["trial-0"]["curves"]["loss"] == [[1, 1.0], [2, 0.5]]
    assert own(kept)["curves"]["best/loss"] == [[1, 0.5]]
    assert (own(kept)["status"], kept["trial-0"]["status"]) == (COMPLETED[name], COMPLETED[name])
