"""`modelopt schema`: the JSON Schema of experiment files, for editors."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON Schema of experiment files, by which editors complete and check them.

    Examples:
      modelopt schema > modelopt.schema.json
      modelopt schema > configs/modelopt.schema.json
    """
    from modelopt_cli.cli import output
    from modelopt_cli.experiment.schema import json_schema

    output.json_document(json.dumps(json_schema(), indent=1))
