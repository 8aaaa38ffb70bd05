"""Tables of options in docs/experiment.md, made from the settings classes: what stands between two comments there.

`<!-- options: NAME -->` a table of a section's options; `<!-- strategies: FAMILY -->` a list of a family's strategies
with theirs. Both end at `<!-- end -->`. Renew: .venv/bin/python scripts/option_tables.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from modelopt_cli.core.strategy import FAMILIES, Strategy
from modelopt_cli.data.sources import DataSource
from modelopt_cli.data.splits import Splits
from modelopt_cli.distillation.losses import DistillationLoss
from modelopt_cli.distillation.settings import Cache, DistillationSettings, TeacherSettings
from modelopt_cli.experiment.command import CommandSettings
from modelopt_cli.experiment.document.layout import plain
from modelopt_cli.experiment.evaluation import EvaluationSettings, LatencySettings
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.quantization import QuantizationRecoverySection, QuantizationSection
from modelopt_cli.experiment.recovery import PruningSection, RecoverySection
from modelopt_cli.pruning.settings import Budget
from modelopt_cli.training.settings import Distributed, TrainingSection
from modelopt_cli.tuning.search.fidelity import Fidelity
from modelopt_cli.tuning.search.settings import TuningSettings
from modelopt_cli.tuning.search.stop_when import StopWhen

PAGE = Path(__file__).parents[1] / "docs" / "experiment.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "experiment": Experiment,
    "data": DataSource,
    "splits": Splits,
    "training": TrainingSection,
    "distributed": Distributed,
    "pruning": PruningSection,
    "recovery": RecoverySection,
    "budget": Budget,
    "quantization": QuantizationSection,
    "quantization_recovery": QuantizationRecoverySection,
    "distillation": DistillationSettings,
    "teacher": TeacherSettings,
    "cache": Cache,
    "evaluation": EvaluationSettings,
    "latency": LatencySettings,
    "tuning": TuningSettings,
    "fidelity": Fidelity,
    "stop_when": StopWhen,
    "command": CommandSettings,
    **{name: FAMILIES["loggers"].get(name) for name in ("tensorboard", "mlflow", "wandb", "trackio")},
}
_PLACE = re.compile(r"(<!-- (options|strategies): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(page: str) -> str:
    """The page with every table made anew."""

    def table(match: re.Match[str]) -> str:
        made = options(SECTIONS[match[3]]) if match[2] == "options" else strategies(match[3])
        return f"{match[1]}{made}{match[4]}"

    return _PLACE.sub(table, page)


def options(section: type[BaseModel]) -> str:
    """| option | default | meaning |, a row each."""
    rows = [
        f"| `{name}` | {_default(field) or '*required*'} | {_cell(field.description)} |"
        for name, field in section.model_fields.items()
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows, ""])


def strategies(family: str) -> str:
    """| type | what it is | its own options |, a row each."""
    bases: dict[str, type[Strategy]] = {"data": DataSource, "distillation_losses": DistillationLoss}
    base = bases.get(family)
    shared = set() if base is None else set(base.model_fields)
    rows = []
    for name in FAMILIES[family].names():
        strategy = FAMILIES[family].get(name)
        own = [_option(key, field) for key, field in strategy.model_fields.items() if key not in shared]
        rows.append(f"| `{name}` | {_cell(strategy.summary())} | {', '.join(own)} |")
    return "\n".join([f"| {family} | | options and their defaults (**bold**: required) |", "|---|---|---|", *rows, ""])


def _option(name: str, field: Any) -> str:
    default = _default(field)
    return f"`{name}: {default.strip('`')}`" if default else f"**`{name}`**"


def _default(field: Any) -> str:
    """As it would be written in YAML; empty for a required option."""
    if field.is_required():
        return ""
    value = plain(field.get_default(call_default_factory=True, validated_data={}))
    if isinstance(value, dict) and "type" in value:
        value = value["type"]
    is_word = isinstance(value, str) and re.fullmatch(r"\w[\w .-]*", value)
    return f"`{value if is_word else json.dumps(value)}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> int:
    """Write the page; with --check, exit 1 when it is not as it would be written."""
    page = PAGE.read_text(encoding="utf-8")
    new = renewed(page)
    if "--check" in sys.argv:
        if new != page:
            changed = sorted({*new.splitlines()} ^ {*page.splitlines()})
            print("docs/experiment.md is not as the code says; renew it: .venv/bin/python scripts/option_tables.py")
            print("\n".join(f"  {line[:100]}" for line in changed[:10]))
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
