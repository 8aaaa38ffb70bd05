"""`modelopt prune`: a file of weights, or the model of an experiment file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from modelopt_cli.cli.commands.prune_options import PruneOptions
from modelopt_cli.cli.options import Gate, Json, Junit, Key, Quiet, Resume, Set, TrustCode, TrustPickle
from modelopt_cli.cli.running import brief, check_junit, conditions, demand, execute, expect, run_in_memory, show


def prune(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Weights: .pt, .pth, .bin, .safetensors, a folder of safetensors shards, a model.pt of modelopt; "
            "or an experiment file (.yaml) with a pruning section.",
            show_default=False,
        ),
    ],
    threshold: Annotated[
        float | None, typer.Option(metavar="SIZE", help="Weights with |w| below this become 0.")
    ] = None,
    amount: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of the weights to remove, from 0 to below 1.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(metavar="N:M", help="Keep N of every M inputs, e.g. 2:4.")] = None,
    structure: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What goes: weights, neurons (smaller layers), block, nm; with --experiment or a .yaml.",
        ),
    ] = None,
    importance: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What tells how much each matters (modelopt list importances); likewise."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="WHAT=MUCH", help="What may be left, e.g. flops=50%, parameters=100000; likewise."),
    ] = None,
    scope: Annotated[
        Literal["layer", "global"] | None,
        typer.Option(
            metavar="layer|global", help="Rank the weights of --amount in each tensor, or all together (the default)."
        ),
    ] = None,
    keep_at_least: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the weights that stays in each tensor, whatever goes.")
    ] = 0.0,
    include: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Prune these tensors only.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Leave these tensors alone.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Spare no tensor by its name, shape or place.")] = False,
    key: Key = None,
    experiment: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Experiment file with the model and data that judge the weights before and after."
        ),
    ] = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Where to write; default: model.pruned.pt beside it (a .yaml: runs/NAME/NUMBER)."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output (never the input).")] = False,
    trust_pickle: TrustPickle = False,
    trust_code: TrustCode = False,
    measure_compressed: Annotated[
        bool, typer.Option("--measure-compressed", help="Compress all of a large file to tell its size, not samples.")
    ] = False,
    gate: Gate = None,
    junit: Junit = None,
    resume: Resume = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take the least important weights out of a model: of a file of weights, or of an experiment's trained model.

    Examples:
      modelopt prune weights.safetensors --amount 0.9 --out small.safetensors
      modelopt prune runs/digits-mlp/1/model.pt --threshold 0.01 --dry-run
      modelopt prune experiment.yaml --structure neurons --budget flops=50%
    """
    given = PruneOptions(
        threshold=threshold,
        amount=amount,
        pattern=pattern,
        budget=budget,
        structure=structure,
        importance=importance,
        scope=scope,
        keep_at_least=keep_at_least,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        everything=everything,
    )
    by_experiment = target.suffix in (".yaml", ".yml")
    _refuse_mixed(by_experiment, experiment, set_, resume, bool(force or trust_pickle or measure_compressed or key))
    if by_experiment:
        from modelopt_cli.workflows import prune as workflow

        execute(
            workflow,
            target,
            [*given.overrides(), *(set_ or [])],
            gate,
            out=out,
            resume=resume,
            dry_run=dry_run,
            trust_code=trust_code,
            junit=junit,
            as_json=json,
            quiet=quiet,
        )
        return
    check_junit(junit, gate or (), dry_run=dry_run)
    if experiment is not None:
        from modelopt_cli.experiment.experiment import Experiment
        from modelopt_cli.workflows import prune_file_with_experiment

        overrides = [*given.overrides(), *(set_ or [])]
        loaded = Experiment.load(experiment, overrides, trust_code=trust_code)
        report = run_in_memory(
            lambda context: prune_file_with_experiment.run(
                target, loaded, context, out, dry_run=dry_run, force=force, key=key, trust_code=trust_code
            ),
            conditions(gate),
            quiet=quiet or json,
        )
    else:
        from modelopt_cli.workflows import prune_file

        expect(gate, (*prune_file.COUNTED, *(() if dry_run else prune_file.WRITTEN)))
        exact = measure_compressed or any("compressed_bytes" in condition for condition in gate or ())
        with brief(f"pruning {target}", quiet=quiet or json):
            report = prune_file.run(
                target,
                given.pruning(),
                out,
                dry_run=dry_run,
                force=force,
                trust=trust_pickle,
                measure_compressed=exact,
                key=key,
                gates=conditions(gate),
            )
    show(report, as_json=json, quiet=quiet)
    demand(report, junit)


def _refuse_mixed(
    by_experiment: bool, experiment: Path | None, set_: list[str] | None, resume: bool, of_files: bool
) -> None:
    """Raise UsageError for options that do not go with what is pruned."""
    from modelopt_cli.core.errors import UsageError

    if by_experiment and (experiment is not None or of_files):
        raise UsageError(
            "--experiment, --key, --force, --trust-pickle and --measure-compressed are for files of weights; leave "
            "them out for an experiment file"
        )
    if not by_experiment and resume:
        raise UsageError("--resume continues the run of an experiment file; pruning a file of weights starts anew")
    if not by_experiment and experiment is None and set_:
        raise UsageError("--set changes an experiment file; name one with --experiment FILE")
