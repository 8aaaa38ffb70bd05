"""A model as a file that runs without its code: an exported program of torch (.pt2), or ONNX."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import MissingExtraError, UsageError
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from modelopt_cli.models.architectures import Shapes

FORMATS = (".pt2", ".onnx")
ABOUT = "modelopt.json"
"""Under this name the file holds what it was told about itself: an extra file in a .pt2, metadata in ONNX."""
_MOST = 2**31 - 1  # bytes that one protocol buffer holds


def export(module: nn.Module, example: Tensor, path: Path, about: Mapping[str, Any] | None = None) -> bool:
    """Write `module`, in evaluation mode; the format is that of the path's suffix. Says whether any batch size fits.

    `example`: (B, *inputs), B at least 2; where the code works for one batch size only, that is B. A .pt2 is read by
    torch.export.load, and its module() can be trained on. `about`: plain values that the file keeps. Raises UsageError
    where the module cannot be captured, or the format's extra is not installed.
    """
    content, dynamic = exported_bytes(module, example, format_of(path), about)
    write_whole(path, lambda stream: stream.write(content))
    return dynamic


def about_model(shapes: Shapes, label_names: Sequence[str], preprocessing: dict[str, Any]) -> dict[str, Any]:
    """What a program without code says about itself: plain values."""
    dtype = "float32" if shapes.tokens is None else "int64"
    inputs = {"shape": list(shapes.inputs), "dtype": dtype}
    return {"task": shapes.task, "inputs": inputs, "label_names": list(label_names), "preprocessing": preprocessing}


def about_raw_model(
    shapes: Shapes, label_names: Sequence[str], raw: Mapping[str, Any], preprocessing: dict[str, Any]
) -> dict[str, Any]:
    """The same of a program that takes raw inputs (`raw`: training/raw_inputs.py).

    What its graph holds goes by another name than what users of a bare program have to apply.
    """
    return {
        "task": shapes.task,
        **raw,
        "label_names": list(label_names),
        "preprocessing_inside": preprocessing,
    }


def format_of(path: Path) -> str:
    """`.pt2` or `.onnx`. Raises UsageError for other suffixes, and where what it needs is not installed."""
    if path.suffix not in FORMATS:
        ending = f"the suffix '{path.suffix}'" if path.suffix else "no suffix"
        raise UsageError(f"{path} has {ending}, which says the format; name a file that ends in {' or '.join(FORMATS)}")
    if path.suffix == ".onnx":
        check_onnx()
    return path.suffix


def check_onnx() -> None:
    """Raise MissingExtraError where what writes ONNX is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "onnx") from None


def exported_bytes(
    module: nn.Module, example: Tensor, suffix: str, about: Mapping[str, Any] | None = None
) -> tuple[bytes, bool]:
    """(content of the file, whether any batch size fits). See `export`."""
    from modelopt_cli.models.graph.capture import exported

    program, dynamic = exported(module, example)
    _forget_places(program)
    text = json.dumps(about or {}, ensure_ascii=False)
    return (_onnx if suffix == ".onnx" else _pt2)(program, example, text), dynamic


def _forget_places(program: Any) -> None:
    """The names of this machine's folders, which torch notes at every operator, are nobody else's business."""
    for node in _nodes(program):
        node.meta.pop("stack_trace", None)


def _nodes(program: Any) -> Iterator[fx.Node]:
    """Of the graph, and of graphs in it."""
    from torch import fx

    for part in program.graph_module.modules():
        if isinstance(part, fx.GraphModule):
            yield from part.graph.nodes


def _pt2(program: Any, example: Tensor, about: str) -> bytes:
    import torch

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, stream, extra_files={ABOUT: about})
    return stream.getvalue()


def _onnx(program: Any, example: Tensor, about: str) -> bytes:
    import torch

    from modelopt_cli.models.files.onnx_operators import read_once
    from modelopt_cli.models.graph.capture import quiet

    named = [each["name"] for each in json.loads(about).get("outputs", ())]
    given = len(program.graph_signature.user_outputs)
    outputs = named if len(named) == given else ["outputs"] if given == 1 else None
    names: dict[str, Any] = {"input_names": ["inputs"], "output_names": outputs}
    _lay_out_attention(program)
    try:
        with quiet(), read_once():
            exported = torch.onnx.export(program, (example,), dynamo=True, verbose=False, **names)
    except torch.onnx.errors.OnnxExporterError as error:
        raise UsageError(f"torch cannot write the model as ONNX: {_reason(error)}; write a .pt2") from error
    assert exported is not None
    proto = exported.model_proto
    _name_batch(proto)
    entry = proto.metadata_props.add()
    entry.key, entry.value = ABOUT, about
    if proto.ByteSize() > _MOST:
        raise UsageError(
            f"the model has {proto.ByteSize():,} bytes, but an ONNX file holds at most 2 GiB; write a .pt2"
        )
    content: bytes = proto.SerializeToString()
    return content


def _lay_out_attention(program: Any) -> None:
    """The fused kernel's result lies in memory as those of the operators that stand for it in ONNX do not, and torch
    fails where a later reshape was a mere view; a copy of its own lies alike, and a reshape minds nothing.
    """
    import torch

    for node in list(_nodes(program)):
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
        if node.target is torch.ops.aten.scaled_dot_product_attention.default:
            with node.graph.inserting_after(node):
                layout: dict[str, Any] = {"memory_format": torch.contiguous_format}
                copy = node.graph.call_function(torch.ops.aten.clone.default, (node,), layout)
            copy.meta = dict(node.meta)
            node.replace_all_uses_with(copy)
            copy.args = (node,)


def _reason(error: BaseException) -> str:
    """The first line of what it comes from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip().rstrip(".!") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _name_batch(proto: Any) -> None:
    """The dimension that may have any size is called `batch`, and not by torch's number for it."""
    first = proto.graph.input[0].type.tensor_type.shape.dim[0]
    if not first.HasField("dim_param"):
        return
    name = re.compile(rf"\b{re.escape(first.dim_param)}\b")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_param = name.sub("batch", dim.dim_param)
