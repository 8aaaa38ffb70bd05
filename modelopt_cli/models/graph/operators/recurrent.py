"""LSTM, GRU and plain recurrent layers: rows are gates x hidden units; layers that share a state share its units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelopt_cli.models.graph.axes import Axis, Clash, total
from modelopt_cli.models.graph.call import Call, Dims, Operator, table

_GATE = "a gate of a recurrent layer"


def _layout(call: Call, lstm: bool) -> tuple[list[Any], list[Any], bool, int, int]:
    """(states, weights, biased, layers, directions)"""
    arguments: list[Any] = list(call.node.args)
    _, states, weights, biased, layers, _, _, bidirectional, *_ = arguments
    listed = list(states) if lstm else [states]
    return listed, list(weights), bool(biased), layers, 2 if bidirectional else 1


def _recurrent(gates: int, lstm: bool) -> Operator:
    def rule(call: Call) -> list[Dims | None]:
        states, weights, biased, layers, directions = _layout(call, lstm)
        if len(weights) != layers * directions * (4 if biased else 2):
            raise Clash("a recurrent layer with projections")
        inputs = call.tensor(0)
        current, hidden = inputs[2], None
        dims_of_states = [call.dims(state) for state in states]
        step = 4 if biased else 2
        for layer in range(layers):
            outputs: list[Axis] = []
            for direction in range(directions):
                place = (layer * directions + direction) * step
                source = call.argument(0) if layer == 0 else None
                hidden = _cell(call, weights[place : place + step], current, source, gates)
                outputs.append(hidden)
                for dims in dims_of_states:
                    if dims is not None:
                        call.unify(dims[2], hidden)
            current = total(outputs)
        first = dims_of_states[0]
        if first is None or hidden is None:
            raise Clash("a recurrent layer without a state")
        return [[inputs[0], inputs[1], current], *[[first[0], first[1], hidden] for _ in states]]

    def macs(call: Call) -> Iterable[Sequence[Axis]]:
        _, weights, biased, _, _ = _layout(call, lstm)
        inputs = call.tensor(0)
        found = []
        for place in range(0, len(weights), 4 if biased else 2):
            for weight in weights[place : place + 2]:
                dims = call.dims(weight)
                assert dims is not None
                found.append([inputs[0], inputs[1], *dims])
        return found

    return Operator(rule, macs=macs)


def _cell(call: Call, weights: Sequence[Any], inputs: Axis, source: Any, gates: int) -> Axis:
    """One layer in one direction: (gates * H, inputs), (gates * H, H), biases. Gives H."""
    dims = [call.dims(weight) for weight in weights]
    from_input, from_hidden, *biases = (each or [] for each in dims)
    hidden = from_hidden[1]
    call.unify(from_input[1], inputs)
    call.consumes(weights[0], 1, source, 2)
    call.consumes(weights[1], 1, None, 2)
    for rows in (from_input[0], from_hidden[0], *(bias[0] for bias in biases)):
        gate, units = call.split(rows, gates)
        call.freeze(gate, _GATE)
        call.unify(units, hidden)
    return hidden


OPERATORS = {
    **table(_recurrent(4, lstm=True), "lstm.input"),
    **table(_recurrent(3, lstm=False), "gru.input"),
    **table(_recurrent(1, lstm=False), "rnn_tanh.input", "rnn_relu.input"),
}
