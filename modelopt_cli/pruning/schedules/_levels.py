"""The shares that are gone after each round on the way to the last."""

from __future__ import annotations


def levels(amount: float | None, rounds: int, shape: str) -> list[float]:
    """`rounds` shares that are gone, ascending to `amount`; 1.0 each for a threshold.

    geometric: every round takes the same share of what is left; linear: every round takes the same number.
    """
    if amount is None:
        return [1.0] * rounds
    if shape == "linear" or amount >= 1.0:
        return [amount * number / rounds for number in range(1, rounds + 1)]
    return [1.0 - (1.0 - amount) ** (number / rounds) for number in range(1, rounds)] + [amount]
