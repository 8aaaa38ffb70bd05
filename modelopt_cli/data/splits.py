"""Which samples train, validate and test."""

from __future__ import annotations

from modelopt_cli.core.strategy import Settings


class Splits(Settings):
    """Fractions, or indices, of the validation and test split."""
