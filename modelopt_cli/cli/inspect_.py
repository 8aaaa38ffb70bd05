"""`modelopt inspect`: what a file of weights holds."""

from __future__ import annotations

from modelopt_cli.cli.running import Json, Weights, show


def inspect_(
    model: Weights,
    json: Json = False,
) -> None:
    """Show a model's tensors: shapes, dtypes, zeros, how the values are spread, and the file's size."""
    from modelopt_cli.workflows.inspect_file import run

    show(run(model), as_json=json, quiet=False)
