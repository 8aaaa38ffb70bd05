"""Einstein sums: a letter is an axis; what no output letter names is summed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from modelopt_cli.models.graph.axes import Axis, Clash
from modelopt_cli.models.graph.call import Call, Dims, Operator, table
from modelopt_cli.models.graph.operators.reductions import DIAGONAL


def _subscripts(call: Call) -> tuple[list[str], str]:
    """Letters of each input and of the output. An ellipsis becomes capital letters that are not used otherwise."""
    equation = str(call.argument(0)).replace(" ", "")
    left, arrow, output = equation.partition("->")
    if not arrow:  # letters that stand once, in the order of the alphabet
        output = "..." * ("..." in left)
        output += "".join(sorted(letter for letter in set(left) - set(".,") if left.count(letter) == 1))
    unused = [letter for letter in ascii_uppercase if letter not in equation]
    inputs, most = [], 0
    for letters, value in zip(left.split(","), call.argument(1), strict=True):
        hidden = len(call.dims(value) or []) - len(letters.replace("...", "")) if "..." in letters else 0
        inputs.append(letters.replace("...", "".join(reversed(unused[:hidden]))))
        most = max(most, hidden)
    return inputs, output.replace("...", "".join(reversed(unused[:most])))


def _einsum(call: Call) -> Dims:
    inputs, output = _subscripts(call)
    of_letter: dict[str, Axis] = {}
    given = call.argument(1)
    for letters, value in zip(inputs, given, strict=True):
        dims = call.dims(value)
        if dims is None:
            raise Clash("an argument that is no tensor")
        for letter, axis in zip(letters, dims, strict=True):
            if letters.count(letter) > 1:
                call.freeze(axis, DIAGONAL)
            if of_letter.setdefault(letter, axis).size == 1 < axis.size:  # broadcast
                of_letter[letter] = axis
            elif axis.size > 1:
                call.unify(of_letter[letter], axis)
    for number, letters in enumerate(inputs):
        for dim, letter in enumerate(letters):
            if letter not in output:
                sources = [at for at, other in enumerate(inputs) if at != number and letter in other]
                if sources:
                    call.consumes(given[number], dim, given[sources[0]], inputs[sources[0]].index(letter))
                else:
                    call.contracts(of_letter[letter], given[number], dim)
    return [of_letter[letter] for letter in output]


def _einsum_macs(call: Call) -> Iterable[Sequence[Axis]]:
    """As torch does it: from left to right, or along a path, which counts results behind what is left."""
    inputs, output = _subscripts(call)
    axes = {
        letter: axis
        for letters, value in zip(inputs, call.argument(1), strict=True)
        for letter, axis in zip(letters, call.dims(value) or [], strict=True)
    }
    left, path = [set(letters) for letters in inputs], list(call.argument(2, "path") or [])
    while len(left) > 1:
        at = len(left) - 2 if path else 0
        first, second = sorted((path.pop(0), path.pop(0))) if path else (0, 1)
        other, one = left.pop(second), left.pop(first)
        needed = set(output).union(*left)
        one, other = one & (needed | other), other & (needed | one)
        if one & other - needed:  # else a product of elements
            yield [axes[letter] for letter in sorted(one | other)]
        left.insert(at, (one | other) & needed)


OPERATORS = table(Operator(_einsum, macs=_einsum_macs), "einsum.default")
