"""Writing plain values as YAML that reads back the same, by this project's reader and by YAML 1.1 readers alike."""

from __future__ import annotations

from typing import Any

import yaml

from modelopt_cli.core.references import Written, escape
from modelopt_cli.core.scalars import resolve


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would not read as text; lists of plain values take one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    if isinstance(value, Written):
        return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style=None if value.plain else "'")
    value = escape(value)
    style = None if isinstance(resolve(value), str) else "'"
    if any(char in value for char in "\x85\u2028\u2029"):
        style = '"'  # the other styles would print some of these as they are, to be read as line breaks
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    flat = not any(isinstance(value, dict | list | Written) for value in values)  # a bare ${...} needs its own line
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flat)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Written, _text)
_Dumper.add_representer(list, _list)


def dump(values: dict[str, Any]) -> str:
    """YAML text of plain nested values, keys in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
