"""Our distillation losses beside the papers' formulas and torchdistill's losses, in the same training loop.

Each contender trains the same student from the same start on the same batches, 30 steps down its own loss. Shown: the
largest relative difference of the losses over all steps; so gradients count, too. float64: `compare`, as the loss is
written; float32: `loss`, as training calls it. crd draws random negatives, and review_kd's fusions have random starts
of their own: tests/distillation holds them against their formulas; here, of review_kd, its context loss.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _common import HERE, ONE_THREAD, run, show, verdict, write
from _distill_loop import BATCH, CHANNELS, CLASSES, STEPS, Contender, Features, descend
from _distill_reference import contenders as papers
from torch import Tensor
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs
from modelopt_cli.distillation.losses import DistillationLoss, FeatureLoss
from modelopt_cli.distillation.losses._review_kd import context_loss

GOALS = {torch.float64: 1e-9, torch.float32: 1e-3}
# name -> weight of the labels, of the loss, the loss, its taps
CASES: dict[str, tuple[float, float, dict[str, Any], list[str]]] = {
    "soft_targets": (0.1, 0.9, {"type": "soft_targets", "temperature": 4.0}, []),
    "soft_targets, standardize": (0.1, 9.0, {"type": "soft_targets", "temperature": 2.0, "standardize": True}, []),
    "dkd": (1.0, 1.0, {"type": "dkd"}, []),
    "dist": (1.0, 16.0, {"type": "dist", "beta": 2.0, "gamma": 2.0, "temperature": 4.0}, []),
    "ttm": (1.0, 1.0, {"type": "ttm"}, []),
    "wttm": (1.0, 1.0, {"type": "wttm"}, []),
    "mse_logits": (0.0, 1.0, {"type": "mse_logits"}, []),
    "fitnets": (0.0, 1.0, {"type": "fitnets"}, ["high"]),
    "attention_transfer": (0.0, 1.0, {"type": "attention_transfer"}, ["low", "high"]),
    "similarity_preserving": (0.0, 1.0, {"type": "similarity_preserving"}, ["high"]),
    "rkd": (0.0, 1.0, {"type": "rkd"}, ["vector"]),
    "vid": (0.0, 1.0, {"type": "vid"}, ["high"]),
    "nst": (0.0, 1.0, {"type": "nst"}, ["low", "high"]),
}
CONTEXT = "review_kd, context"


def _strategy(options: dict[str, Any], taps: list[str]) -> DistillationLoss:
    given = {key: value for key, value in options.items() if key != "type"}
    if taps:
        given["taps"] = taps
    kind = FAMILIES["distillation_losses"].get(options["type"])
    assert issubclass(kind, DistillationLoss)
    return kind(**given)


def _state(loss: DistillationLoss, taps: list[str], dtype: torch.dtype) -> torch.nn.Module | None:
    if not isinstance(loss, FeatureLoss):
        return None
    shapes = {
        who: {"low": (low, 8, 8), "high": (high, 4, 4), "vector": (high,)} for who, (low, high) in CHANNELS.items()
    }
    torch.manual_seed(2)
    sizes = FeatureShapes(
        outputs=CLASSES,
        samples=BATCH,
        targets=torch.arange(BATCH) % CLASSES,
        indices=torch.arange(BATCH),
        student=tuple(shapes["student"][tap] for tap in taps),
        teacher=tuple(shapes["teacher"][tap] for tap in taps),
    )
    state = loss.init(sizes, 0)
    return None if state is None else state.to(dtype)


def ours(name: str, dtype: torch.dtype) -> tuple[Contender, dict[str, Tensor]]:
    """The loss as a contender, and what its projectors start from."""
    labels, weight, options, taps = CASES[name]
    loss = _strategy(options, taps)
    state = _state(loss, taps, dtype)

    def formula(s: Features, t: Features, y: Tensor) -> Tensor:
        own, other = tuple(s[tap] for tap in taps), tuple(t[tap] for tap in taps)
        plain = F.cross_entropy(s["logits"], y)
        seen = LossInputs(
            s["logits"], t["logits"], y, None, torch.arange(len(y)), "classification", lambda: plain, own, other
        )
        if dtype == torch.float32:
            value = loss.loss(seen, state)
        elif taps:
            value = loss.compare(own, other, seen, state)  # type: ignore[attr-defined]
        else:
            value = loss.compare(*_logits(loss, s, t), seen)  # type: ignore[attr-defined]
        return labels * plain + weight * value

    start = {} if state is None else {key: item.clone() for key, item in state.state_dict().items()}
    return Contender(formula, [] if state is None else list(state.parameters())), start


def _logits(loss: Any, s: Features, t: Features) -> tuple[Tensor, Tensor]:
    from modelopt_cli.distillation.losses._divergence import standardized

    logits = (s["logits"], t["logits"])
    return (standardized(logits[0]), standardized(logits[1])) if loss.standardize else logits


def _all_ours(dtype: torch.dtype) -> tuple[dict[str, Contender], dict[str, dict[str, Tensor]]]:
    made = {name: ours(name, dtype) for name in CASES}
    starts = {name: start for name, (_, start) in made.items() if start}
    starts["fitnets"] = {key.rpartition(".")[2]: item for key, item in starts["fitnets"].items()}
    context = Contender(lambda s, t, y: context_loss(s["high"], t["high"][:, :8]).mean())
    return {name: one for name, (one, _) in made.items()} | {CONTEXT: context}, starts


def difference(values: list[float], others: list[float]) -> float:
    """The largest over the steps, relative to the other."""
    return max(abs(one - other) / max(abs(other), 1e-12) for one, other in zip(values, others, strict=True))


def peer(python: Path | None, starts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What torchdistill's losses give; nothing without it."""
    if python is None:
        return {}
    torch.save(starts, folder / "start.pt")
    return dict(run([python, HERE / "_distill_peer.py", folder / "start.pt"], env=ONE_THREAD).json())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peer", type=Path, help="python of an environment with torchdistill, see _distill_peer.py")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float]] = {name: {} for name in (*CASES, CONTEXT)}
    made = {dtype: _all_ours(dtype) for dtype in GOALS}
    with TemporaryDirectory() as folder:
        theirs = peer(args.peer, {str(dtype): starts for dtype, (_, starts) in made.items()}, Path(folder))
    goals = []
    for dtype, (own, starts) in made.items():
        kind = str(dtype).removeprefix("torch.")
        written = papers(starts)
        for name, contender in own.items():
            values = descend(contender, dtype)
            figures[name][f"paper, {kind}"] = difference(values, descend(written[name], dtype))
            other = theirs.get(str(dtype), {}).get(name)
            if other is not None:
                figures[name][f"torchdistill, {kind}"] = difference(values, other)
        worst = max(value for row in figures.values() for key, value in row.items() if key.endswith(kind))
        goals.append(verdict(f"largest relative difference in {STEPS} steps, {kind}", worst, GOALS[dtype], ""))
    columns = [f"{who}, {kind}" for kind in ("float64", "float32") for who in ("paper", "torchdistill")]
    lines = [
        [name, *(f"{row[column]:.1e}" if column in row else "–" for column in columns)] for name, row in figures.items()
    ]
    show("Largest relative difference of the loss", ["loss", *columns], lines)
    write(args.out, "distill_formulas", figures, goals, torchdistill=bool(theirs))


if __name__ == "__main__":
    main()
