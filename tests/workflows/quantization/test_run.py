"""A quantization as a run: what it reports, recovery, resuming, masks, and the file that is handed on."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from modelopt_cli.core.errors import MissingExtraError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.training.inference import predict
from modelopt_cli.workflows.quantization.run import QuantizeRun
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

pytestmark = pytest.mark.slow


def experiment(quantization: dict[str, Any], **sections: Any) -> Experiment:
    return Experiment.load(
        {
            "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
            "model": {"type": "mlp", "hidden": [16, 12], "batch_norm": True, "dropout": 0.1},
            "training": {"epochs": 15, "batch_size": 16, "optimizer": {"type": "adam", "lr": 0.01}},
            "quantization": quantization,
            **sections,
        }
    )


def trained(chosen: Experiment) -> nn.Module:
    run = TorchRun(chosen, data_cache.prepared_data(chosen), seed=3)
    run.advance(run.total)
    return run.trainer.module


def opened(chosen: Experiment, module: nn.Module, **more: Any) -> QuantizeRun:
    return QuantizeRun(chosen, data_cache.prepared_data(chosen), seed=3, module=module, **more)


def finished(run: QuantizeRun) -> QuantizeRun:
    while run.step < run.total:
        run.advance(run.step + 1)
    return run


def through_a_file(state: Any) -> Any:
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def answers(content: bytes, raw: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: raw})
    return outputs


def test_the_file_is_judged_beside_the_model_in_float() -> None:
    chosen = experiment({"method": "static"})
    module = trained(chosen)
    run = finished(opened(chosen, module))
    metrics, test = run.metrics(), run.test_metrics()
    data = data_cache.prepared_data(chosen)
    for split, judged in (("validation", metrics), ("test", test)):
        part = getattr(data, split)
        assert run.quantized is not None
        right = predict(run.quantized.module, part.inputs).argmax(1) == part.targets
        before = predict(module.cpu(), part.inputs).argmax(1) == part.targets
        assert judged[f"{split}.accuracy"] == pytest.approx(right.mean())
        assert judged[f"{split}.accuracy_drop"] == pytest.approx(before.mean() - right.mean())
        assert f"{split}.loss_rise" in judged
    parameters = sum(parameter.numel() for parameter in module.parameters())
    assert metrics["model.parameters"] == parameters
    assert metrics["model.file_bytes"] == len(run.file)
    assert metrics["model.size_bytes"] < 4 * parameters
    tables = run.tables()
    assert [row["layer"] for row in tables["quantization"].records()] == ["layers.0", "layers.4", "layers.8"]
    assert [row["stage"] for row in tables["quantization_stages"].records()] == ["float", "int8"]
    assert set(run.answers) == {"validation", "test"}


@pytest.mark.parametrize("data", ["iris", "digits", "diabetes", "tokens", "table"])
def test_the_file_that_is_handed_on_takes_raw_inputs_and_answers_as_what_was_judged(data: str, tmp_path: Any) -> None:
    sections: dict[str, Any] = {"data": {"type": data}}
    rng = np.random.default_rng(0)
    if data == "digits":
        sections = {"data": {"type": "digits", "shape": "image"}, "model": {"type": "cnn", "channels": [4]}}
    if data == "tokens":
        np.savez(tmp_path / "t.npz", x=rng.integers(0, 9, (80, 5)), y=rng.integers(0, 2, 80))
        sections["data"] = {"type": "npz", "path": str(tmp_path / "t.npz"), "tokens": True}
        sections["model"] = {"type": "transformer", "width": 16, "depth": 1, "heads": 2}
    if data == "table":
        rows = [f"{number},{'a' if number % 3 else 'b<i>'},{number % 2}" for number in range(80)]
        (tmp_path / "t.csv").write_text("n,kind,y\n" + "\n".join(rows) + "\n,a,1\n")
        sections["data"] = {"type": "csv", "path": str(tmp_path / "t.csv"), "target": "y"}
    method = "dynamic" if data == "tokens" else "static"
    chosen = experiment({"method": method, "max_drop": None}, training={"epochs": 1}, **sections)
    run = finished(opened(chosen, trained(chosen)))
    prepared = data_cache.prepared_data(chosen)
    from modelopt_cli.training.raw_inputs import AsPredicted, raw_example

    assert run.quantized is not None
    reference = AsPredicted(run.quantized.module, prepared.preprocessing, prepared.task)
    for size in (1, 6):
        raw = raw_example(prepared.preprocessing, size, seed=5)
        expected = reference(raw)
        expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
        for made, wanted in zip(answers(run.file, raw.numpy()), expected, strict=True):
            assert np.allclose(made, wanted.numpy(), atol=2e-2 * float(wanted.abs().max()))
    proto = onnx.load_from_string(run.file)
    about = json.loads({entry.key: entry.value for entry in proto.metadata_props}["modelopt.json"])
    assert about["label_names"] == list(prepared.label_names)
    assert about["inputs"]["raw"] is True
    assert [value.name for value in proto.graph.input] == ["inputs"]
    assert [value.name for value in proto.graph.output] == [each["name"] for each in about["outputs"]]
    onnx.checker.check_model(proto)


def test_no_recovery_where_post_training_quantization_is_good_enough() -> None:
    chosen = experiment({"max_drop": 1.0, "recovery": {"epochs": 4}})
    run = opened(chosen, trained(chosen))
    assert run.total == 1
    finished(run)
    assert (run.step, run.total) == (1, 1)
    assert run.metrics()["train.epochs"] == 0.0


def test_a_recovery_with_the_dense_teacher_where_too_much_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = experiment({"max_drop": 0.01, "recovery": {"epochs": 4, "lr": 0.003}})
    module = trained(chosen)
    with torch.no_grad():
        module.get_submodule("layers.0").weight[:, 0] *= 40.0  # type: ignore[index, operator]  # spoils the scales
    teacher, taught = trained(chosen), list[int]()
    teacher.register_forward_hook(lambda *_: taught.append(1))
    run = opened(chosen, module, dense=teacher)
    monkeypatch.setattr(run, "_loses_much", lambda _: True)
    finished(run)
    assert run.total == 1 + 4 + 1
    assert run.metrics()["train.epochs"] == 4.0
    assert taught
    assert [row["stage"] for row in run.tables()["quantization_stages"].records()] == ["float", "recovered", "int8"]
    assert not run.module._forward_pre_hooks, "nothing rounds any more"


def test_a_recovery_that_trains_with_rounding_beats_one_that_does_not_at_few_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 2 bits rounding costs much, and training that foresees it wins most of it back."""
    from modelopt_cli.quantization.fake import FakeQuantization

    recovery = {"when": "always", "epochs": 5, "lr": 0.01}
    chosen = experiment({"recovery": recovery}, data={"type": "digits"}, model={"type": "mlp", "hidden": [16]})
    module = trained(chosen)
    run = opened(chosen, module)
    prepared = data_cache.prepared_data(chosen)

    def rounded_accuracy(each: nn.Module) -> float:
        fake = FakeQuantization(each, excludes=lambda _: False, bits=2)
        fake.calibrate(run._samples())  # private: the same samples
        right = predict(each, prepared.train.inputs).argmax(1) == prepared.train.targets
        fake.close()
        return float(right.mean())

    before = rounded_accuracy(module)
    monkeypatch.setattr("modelopt_cli.quantization.fake.fake_quantized", lambda each, *_: _two_bits(each, run))
    run.advance(5)
    assert rounded_accuracy(run.module) >= before + 0.03


def _two_bits(module: nn.Module, run: QuantizeRun) -> Any:
    from modelopt_cli.quantization.fake import FakeQuantization

    fake = FakeQuantization(module, excludes=lambda _: False, bits=2)
    fake.calibrate(run._samples())  # private: the same samples
    return fake


def test_resumed_at_every_step_it_comes_to_the_same_file() -> None:
    chosen = experiment({"recovery": {"when": "always", "epochs": 3}, "max_drop": None})
    module = trained(chosen)
    whole = finished(opened(chosen, module))
    state: Any = None
    for step in range(1, whole.total + 1):
        run = opened(chosen, module, state=state)
        assert (run.step, run.total) == (step - 1, whole.total)
        run.advance(step)
        state = through_a_file(run.state())
        run.close()
    last = opened(chosen, module, state=state)
    names = ("validation.loss", "validation.loss_rise", "model.file_bytes")
    assert {name: last.metrics()[name] for name in names} == {name: whole.metrics()[name] for name in names}
    assert last.file == whole.file


def test_the_zeros_of_an_earlier_pruning_stay() -> None:
    chosen = experiment({"recovery": {"when": "always", "epochs": 2}})
    module = trained(chosen)
    weights = {name: value for name, value in module.named_parameters() if value.dim() > 1}
    masks = {name: torch.rand(value.shape) > 0.5 for name, value in weights.items()}
    with torch.no_grad():
        for name, value in weights.items():
            value.mul_(masks[name])
    run = finished(opened(chosen, module, masks=masks))
    for name, value in run.module.named_parameters():
        if name in masks:
            assert not value[~masks[name]].any()
            assert value[masks[name]].any()
    assert run.quantized is not None
    tensors = {tensor.name: tensor for tensor in onnx.load_from_string(run.quantized.content).graph.initializer}
    integer = onnx.numpy_helper.to_array(tensors["layers.0.weight_quantized"])
    assert not integer[~masks["layers.0.weight"].numpy()].any()
    assert "masks" in run.checkpoint({}).extra


def test_a_restored_run_has_the_file_of_the_run_that_was_saved() -> None:
    chosen = experiment({"recovery": {"when": "always", "epochs": 2}})
    module = trained(chosen)
    run = finished(opened(chosen, module))
    other = opened(chosen, module)
    other.restore(run.checkpoint(run.metrics()))
    assert other.file == run.file


def test_without_a_validation_split_all_is_quantized_and_judged_on_test() -> None:
    data = {"type": "iris", "splits": {"validation": 0.0, "test": 0.3}}
    chosen = experiment({"recovery": {"epochs": 1}}, data=data)
    run = finished(opened(chosen, trained(chosen)))
    assert run.full_metrics() == {}
    assert "test.accuracy_drop" in run.test_metrics()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    chosen = experiment({})
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed; .*modelopt-cli\[onnx\]"):
        opened(chosen, nn.Linear(4, 3))
