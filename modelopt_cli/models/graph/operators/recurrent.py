"""LSTM, GRU and plain recurrent layers: rows are gates x hidden units; layers that share a state share its units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelopt_cli.models.graph.axes import Axis, Clash, total
from modelopt_cli.models.graph.call import Call, Dims, Operator, table

_GATE = "a gate of a recurrent layer"


def _layout(call: Call, lstm: bool) -> tuple[list[Any], list[list[Any]], bool, int, bool]:
    """(states, weights of each layer in each direction, biased, directions, batch first)"""
    arguments: list[Any] = list(call.node.args)
    _, states, weights, biased, layers, _, _, bidirectional, first = arguments
    directions = 2 if bidirectional else 1
    step = len(weights) // (layers * directions)
    listed = [list(weights[start : start + step]) for start in range(0, len(weights), step)]
    return list(states) if lstm else [states], listed, bool(biased), directions, bool(first)


def _recurrent(gates: int, lstm: bool) -> Operator:
    def rule(call: Call) -> list[Dims | None]:
        states, weights, biased, directions, first = _layout(call, lstm)
        inputs, before = call.tensor(0), [call.dims(state) for state in states]
        current, source = inputs[2], call.argument(0)
        units: tuple[Axis, ...] = ()
        for number in range(0, len(weights), directions):
            outputs = []
            for each in weights[number : number + directions]:
                units = _cell(call, each, biased, gates, current, source)
                outputs.append(units[0])
                for dims, axis in zip(before, units, strict=False):
                    _same(call, dims, inputs[0 if first else 1], axis)
            current, source = total(outputs), None
        after: list[Dims | None] = [
            [dims[0], dims[1], axis] for dims, axis in zip(before, units, strict=False) if dims is not None
        ]
        return [[inputs[0], inputs[1], current], *after]

    def macs(call: Call) -> Iterable[Sequence[Axis]]:
        _, weights, biased, _, _ = _layout(call, lstm)
        inputs, matrices = call.tensor(0), (0, 1, 4 if biased else 2)
        for each in weights:
            products = [call.dims(each[number]) for number in matrices if number < len(each)]
            yield from ([inputs[0], inputs[1], *dims] for dims in products if dims is not None)

    return Operator(rule, macs=macs)


def _same(call: Call, state: Dims | None, batch: Axis, units: Axis) -> None:
    """A state is (layers x directions, batch, units)."""
    if state is None:
        raise Clash("a recurrent layer without a state")
    call.unify(state[1], batch)
    call.unify(state[2], units)


def _single(gates: int, lstm: bool) -> Operator:
    """One step: inputs (batch, inputs), states (batch, H)."""

    def rule(call: Call) -> Any:
        inputs, listed = call.tensor(0), call.argument(1)
        states = [call.dims(state) for state in (listed if lstm else [listed])]
        weights = [weight for weight in call.node.args[2:6] if weight is not None]
        hidden, _ = _cell(call, weights, len(weights) > 2, gates, inputs[1], call.argument(0), 1)
        for dims in states:
            if dims is None:
                raise Clash("a recurrent cell without a state")
            call.unify(dims[0], inputs[0])
            call.unify(dims[1], hidden)
        result: Dims = [inputs[0], hidden]
        return [list(result), list(result)] if lstm else result

    def macs(call: Call) -> Iterable[Sequence[Axis]]:
        return [[call.tensor(0)[0], *call.tensor(position)] for position in (2, 3)]

    return Operator(rule, macs=macs)


def _cell(
    call: Call, weights: Sequence[Any], biased: bool, gates: int, inputs: Axis, source: Any, input_dim: int = 2
) -> tuple[Axis, Axis]:
    """One layer in one direction: (gates * H, inputs), (gates * H, P), biases, perhaps a projection (P, H).

    Gives P and H; without a projection they are one. `source` has the inputs at its dimension `input_dim`.
    """
    dims = [call.dims(weight) or [] for weight in weights]
    from_input, from_hidden = dims[:2]
    biases, projections = (dims[2:4], dims[4:]) if biased else ([], dims[2:])
    made = hidden = from_hidden[1]
    if projections:
        made, hidden = projections[0]
        call.unify(made, from_hidden[1])
        call.freeze(hidden, "more than a projection's, by which torch knows that there is one")
        call.consumes(weights[-1], 1, None, input_dim)
    call.unify(from_input[1], inputs)
    call.consumes(weights[0], 1, source, input_dim)
    call.consumes(weights[1], 1, None, input_dim)
    for rows in (from_input[0], from_hidden[0], *(bias[0] for bias in biases)):
        gate, units = call.split(rows, gates)
        call.freeze(gate, _GATE)
        call.unify(units, hidden)
    return made, hidden


OPERATORS = {
    **table(_single(4, lstm=True), "lstm_cell.default"),
    **table(_single(3, lstm=False), "gru_cell.default"),
    **table(_single(1, lstm=False), "rnn_tanh_cell.default", "rnn_relu_cell.default"),
    **table(_recurrent(4, lstm=True), "lstm.input"),
    **table(_recurrent(3, lstm=False), "gru.input"),
    **table(_recurrent(1, lstm=False), "rnn_tanh.input", "rnn_relu.input"),
}
