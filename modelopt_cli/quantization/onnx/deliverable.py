"""The file that is handed on: the quantized graph between what preprocesses raw inputs and what makes outputs readable.

Both ends are exported by themselves and stay in float, so the quantized graph in the middle is the one that was judged.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from modelopt_cli.models.files.exporting import ABOUT, exported_bytes
from modelopt_cli.quantization.agreement import check_agreement
from modelopt_cli.quantization.onnx.float_model import strip
from modelopt_cli.training.raw_inputs import WithPreprocessing, raw_example

if TYPE_CHECKING:
    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.data.raw import Task


class _Before(nn.Module):
    def __init__(self, whole: WithPreprocessing) -> None:
        super().__init__()
        self.whole = whole

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.whole.preprocessed(inputs)


class _After(nn.Module):
    def __init__(self, whole: WithPreprocessing) -> None:
        super().__init__()
        self.whole = whole

    @override
    def forward(self, outputs: Tensor) -> Any:
        return self.whole.readable(outputs)


def deliverable(
    content: bytes,
    running: nn.Module,
    preprocessing: Preprocessing,
    task: Task,
    outputs: int,
    about: Mapping[str, Any],
    batch: int | None,
) -> bytes:
    """`content` (preprocessed inputs to outputs) as a file that takes raw inputs. `running`: what runs `content`.

    `about`: what it tells of itself. `batch`: the only size that it takes; None: any. Raises ModeloptError where what
    came out computes something else.
    """
    import onnx

    middle = onnx.load_from_string(content)
    size = batch or 2
    whole = WithPreprocessing(nn.Identity(), preprocessing, task).cpu().eval()
    raw = raw_example(preprocessing, size)
    proto = middle
    if _changes(whole, raw):
        before = _part(_Before(whole), raw, "before/", batch, preprocessing)
        proto = _joined(before, proto)
    proto = _joined(proto, _part(_After(whole), torch.zeros(size, outputs), "after/", batch, preprocessing))
    names = [each["name"] for each in about["outputs"]]
    _rename(proto, {proto.graph.input[0].name: "inputs"} | dict(zip(_outputs(proto), names, strict=True)))
    del proto.metadata_props[:]
    entry = proto.metadata_props.add()
    entry.key, entry.value = ABOUT, json.dumps(dict(about), ensure_ascii=False)
    proto.graph.name = middle.graph.name
    made: bytes = proto.SerializeToString()
    check_agreement(made, ".onnx", running, preprocessing, task, batch)
    return made


def _changes(whole: WithPreprocessing, raw: Tensor) -> bool:
    """Whether preprocessing does anything."""
    return whole.preprocessed(raw) is not raw


_exported: OrderedDict[str, bytes] = OrderedDict()
"""Ends that were exported before: the same for all models of the same data, such as the trials of a search."""
_MOST_EXPORTED = 8


def _part(module: _Before | _After, example: Tensor, prefix: str, batch: int | None, data: Preprocessing) -> Any:
    """One end as a graph all of whose names begin with `prefix`. It follows from `data`, the task and the shapes."""
    import onnx

    key = json.dumps([prefix, data.to_plain(), module.whole.task, list(example.shape), batch], sort_keys=True)
    if key not in _exported:
        content, _ = exported_bytes(module.eval(), example, ".onnx", {})
        _exported[key] = content
        while len(_exported) > _MOST_EXPORTED:
            _exported.popitem(last=False)
    proto = onnx.load_from_string(_exported[key])
    if batch is not None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    strip(proto)
    return onnx.compose.add_prefix(proto, prefix)


def _joined(first: Any, second: Any) -> Any:
    """`second` takes the only output of `first`."""
    import onnx

    first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
    for proto in (first, second):
        del proto.metadata_props[:]
    return onnx.compose.merge_models(first, second, io_map=[(_outputs(first)[0], second.graph.input[0].name)])


def _outputs(proto: Any) -> list[str]:
    return [value.name for value in proto.graph.output]


def _rename(proto: Any, names: Mapping[str, str]) -> None:
    """Everywhere in the graph; what goes by one of the new names already gets out of the way."""
    taken = {name for node in proto.graph.node for name in (*node.input, *node.output)} - set(names)
    new = {name: f"{name}/inner" for name in taken & set(names.values())} | dict(names)
    for node in proto.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    values = (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer)
    for value in values:
        value.name = new.get(value.name, value.name)
