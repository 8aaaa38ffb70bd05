"""Preprocessing against scikit-learn and torch; fitted on the train split only; plain and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.prepared import prepare
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.splits import SplitIndices, split

RNG = np.random.default_rng(0)


def raw(inputs: Any, **changes: Any) -> RawData:
    values: dict[str, Any] = {
        "targets": np.arange(len(inputs)) % 2,
        "task": "classification",
        "label_names": ("a", "b"),
    }
    return RawData(inputs=inputs, **(values | changes))


def fitted(data: RawData, train: int | None = None, standardize: bool = True, **options: Any) -> Preprocessing:
    return Preprocessing.fit(data, np.arange(train or len(data)), standardize=standardize, **options)


def mixed_frame(rows: int = 40) -> pd.DataFrame:
    numbers = RNG.normal(3, 2, (rows, 2))
    numbers[::7, 0] = np.nan
    texts = np.array([None if i % 9 == 8 else "abc"[i % 3] for i in range(rows)], object)
    return pd.DataFrame({"x": numbers[:, 0], "kind": texts, "y": numbers[:, 1]})


class TestNumbers:
    def test_agrees_with_imputer_and_scaler(self) -> None:
        values = RNG.normal(5, 3, (60, 4))
        values[RNG.random(values.shape) < 0.1] = np.nan
        values[:, 3] = 0.1  # constant: rounding must not be scaled up
        imputer = SimpleImputer(strategy="median").fit(values[:40])
        scaler = StandardScaler().fit(imputer.transform(values[:40]))
        applied = fitted(raw(values), 40).apply(values)
        np.testing.assert_allclose(applied, scaler.transform(imputer.transform(values)), rtol=1e-6, atol=1e-6)
        assert applied.dtype == np.float32

    def test_statistics_come_from_the_train_split_alone(self) -> None:
        values = RNG.normal(size=(50, 3))
        other = values.copy()
        other[30:] = 1e6
        assert fitted(raw(values), 30).to_plain() == fitted(raw(other), 30).to_plain()

    def test_scikit_learn_sees_the_very_numbers(self) -> None:
        values = RNG.normal(size=(10, 3))
        applied = fitted(raw(values), standardize=False, framework="sklearn").apply(values)
        assert applied.dtype == np.float64
        assert np.array_equal(applied, values)

    def test_one_hot_agrees_with_scikit_learn(self) -> None:
        frame = mixed_frame()
        data = raw(frame, feature_names=("x", "kind", "y"))
        applied = fitted(data, 30, standardize=False).apply(frame)
        encoder = OneHotEncoder(handle_unknown="ignore", categories=[["a", "b", "c"]], sparse_output=False)
        expected = encoder.fit(frame[["kind"]].iloc[:30]).transform(frame[["kind"]])
        assert np.array_equal(applied[:, 2:], expected)
        assert applied.shape[1:] == fitted(data).output_shape == (5,)

    def test_an_unknown_text_is_all_zero(self) -> None:
        frame = mixed_frame()
        steps = fitted(raw(frame, feature_names=("x", "kind", "y")))
        new = pd.DataFrame({"y": [1.0], "kind": ["unheard of"], "x": [None]})
        assert np.array_equal(steps.apply(new)[0, 2:], np.zeros(3))

    def test_a_column_without_any_value(self) -> None:
        values = np.full((4, 1), np.nan)
        assert np.array_equal(fitted(raw(values)).apply(values), np.zeros((4, 1)))

    def test_mistakes(self) -> None:
        steps = fitted(raw(np.ones((4, 2)), feature_names=("x", "y")))
        with pytest.raises(InputError, match="trained on shape"):
            steps.apply(np.ones((4, 3)))
        with pytest.raises(InputError, match="'y' is infinite in sample 1"):
            steps.apply(np.array([[0, 0], [0, np.inf]]))
        with pytest.raises(InputError, match="no column 'y'"):
            steps.apply(pd.DataFrame({"x": [1.0]}))
        with pytest.raises(InputError, match="'y' has 'b' in data row 2; it must be a number"):
            steps.apply(pd.DataFrame({"x": [1.0, 2.0], "y": ["1", "b"]}))
        with pytest.raises(InputError, match="named columns: x, kind, y"):
            fitted(raw(mixed_frame(), feature_names=("x", "kind", "y"))).apply(np.ones((4, 3)))
        with pytest.raises(InputError, match="infinite"):
            fitted(raw(np.array([[0.0], [np.inf]])))


class TestImages:
    def test_statistics_are_those_of_torch(self) -> None:
        images = RNG.integers(0, 256, (600, 3, 5, 4), dtype=np.uint8)
        steps = fitted(raw(images), 500)
        scaled = torch.from_numpy(images[:500]).double() / 255
        assert steps.image_mean is not None
        assert steps.image_std is not None
        np.testing.assert_allclose(steps.image_mean, scaled.mean((0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(steps.image_std, scaled.std((0, 2, 3), correction=0), rtol=1e-12)
        assert steps.apply(images) is images  # left for the device
        expected = (torch.from_numpy(images).float() / 255 - scaled.mean((0, 2, 3)).view(3, 1, 1).float()).numpy()
        expected /= steps.image_std.reshape(3, 1, 1).astype(np.float32)
        np.testing.assert_allclose(steps.normalize(images), expected, rtol=1e-5, atol=1e-6)

    def test_without_standardisation_values_go_from_0_to_1(self) -> None:
        images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
        assert fitted(raw(images), standardize=False).normalize(images).ravel().tolist() == [0.0, 1.0]

    def test_scikit_learn_gets_rows(self) -> None:
        images = RNG.integers(0, 256, (6, 3, 5, 4), dtype=np.uint8)
        applied = fitted(raw(images), standardize=False, framework="sklearn").apply(images)
        np.testing.assert_allclose(applied, images.reshape(6, 60) / 255, rtol=1e-6)

    def test_float_images_are_scaled_per_channel_and_sequences_per_feature(self) -> None:
        for shape, others in (((20, 2, 4, 4), (0, 2, 3)), ((20, 7, 3), (0, 1))):
            applied = fitted(raw(RNG.normal(4, 9, shape))).apply(RNG.normal(4, 9, shape))
            assert applied.dtype == np.float32
            assert np.abs(applied.mean(others)).max() < 0.5
            same = RNG.normal(4, 9, shape)
            np.testing.assert_allclose(fitted(raw(same)).apply(same).mean(others), 0, atol=1e-5)
            np.testing.assert_allclose(fitted(raw(same)).apply(same).std(others), 1, atol=1e-5)

    def test_mistakes(self) -> None:
        steps = fitted(raw(np.zeros((4, 3, 5, 4), np.uint8)))
        with pytest.raises(InputError, match="samples have shape"):
            steps.apply(np.zeros((4, 1, 5, 4), np.uint8))
        with pytest.raises(InputError, match="uint8"):
            steps.apply(np.zeros((4, 3, 5, 4)))
        with pytest.raises(InputError, match="sample 2 holds"):
            fitted(raw(np.where(np.arange(4).reshape(4, 1, 1) == 2, np.nan, np.zeros((4, 3, 2)))))


class TestTokens:
    def test_vocabulary_covers_all_samples(self) -> None:
        tokens = np.array([[0, 1], [2, 3], [9, 0]])
        steps = fitted(raw(tokens), 2)
        assert steps.tokens == 10
        assert steps.apply(tokens).dtype == np.int64
        with pytest.raises(InputError, match="0 to 9, as in training"):
            steps.apply(np.array([[0, 10]]))
        with pytest.raises(InputError, match="0 or more"):
            fitted(raw(np.array([[0, -1], [1, 1]])))


class TestPlain:
    def kinds(self) -> dict[str, RawData]:
        return {
            "numbers": raw(RNG.normal(size=(9, 2)), feature_names=("x", "y"), target_names=("t",)),
            "frame": raw(mixed_frame(), feature_names=("x", "kind", "y")),
            "images": raw(np.zeros((4, 3, 5, 4), np.uint8), reading={"size": (5, 4), "max_pixels": 7}),
            "tokens": raw(np.arange(8).reshape(4, 2)),
            "regression": raw(RNG.normal(size=(9, 2)), targets=RNG.normal(size=(9, 2)), task="regression"),
        }

    @pytest.mark.parametrize("kind", ["numbers", "frame", "images", "tokens", "regression"])
    @pytest.mark.parametrize("framework", ["torch", "sklearn"])
    def test_round_trip_through_json_and_a_checkpoint(self, kind: str, framework: Any, tmp_path: Path) -> None:
        data = self.kinds()[kind]
        steps = fitted(data, framework=framework)
        plain = steps.to_plain()
        torch.save(plain, tmp_path / "steps.pt")
        for again in (json.loads(json.dumps(plain)), torch.load(tmp_path / "steps.pt", weights_only=True)):
            back = Preprocessing.from_plain(again)
            assert back.to_plain() == plain
            assert np.array_equal(back.apply(data.inputs), steps.apply(data.inputs), equal_nan=True)

    @settings(max_examples=40, deadline=None)
    @given(
        hnp.arrays(
            np.float64,
            hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
            elements=st.floats(-1e6, 1e6) | st.just(np.nan),
        ),
        st.booleans(),
    )
    def test_round_trip_of_any_numbers(self, values: np.ndarray, standardize: bool) -> None:
        steps = fitted(raw(values), standardize=standardize)
        back = Preprocessing.from_plain(json.loads(json.dumps(steps.to_plain())))
        applied = back.apply(values)
        assert np.array_equal(applied, steps.apply(values))
        assert np.isfinite(applied).all()

    def test_a_deviation_that_rounds_to_zero(self) -> None:
        scaled = fitted(raw(np.array([[5e-324, 1.0], [0.0, 2.0]])), standardize=True).apply(
            np.array([[5e-324, 1.0], [0.0, 2.0]])
        )
        assert scaled.tolist() == [[0.0, -1.0], [0.0, 1.0]]

    def test_damage_and_newer_versions_are_told(self) -> None:
        plain = fitted(raw(np.ones((2, 2)))).to_plain()
        with pytest.raises(InputError, match="newer"):
            Preprocessing.from_plain(plain | {"version": 99})
        broken: list[Any] = [{}, {"version": 1}, plain | {"fill": "x"}, plain | {"categories": 3}, []]
        for damaged in broken:
            with pytest.raises(InputError, match="damaged"):
                Preprocessing.from_plain(damaged)


class TestPrepare:
    def source(self, name: str, **options: Any) -> Any:
        return FAMILIES["data"].get(name).model_validate(options)

    def test_parts_shapes_and_targets(self) -> None:
        source = self.source("digits")
        data = source.load(0)
        indices = split(data, None, 0)
        prepared = prepare(source, data, indices)
        assert prepared.validation is not None
        assert prepared.test is not None
        assert [len(part) for part in (prepared.train, prepared.validation, prepared.test)] == [1077, 360, 360]
        assert (prepared.shapes.inputs, prepared.shapes.outputs, prepared.task) == ((64,), 10, "classification")
        assert np.array_equal(prepared.test.targets, data.targets[indices.test])
        assert abs(prepared.train.inputs.mean(0)).max() < 1e-5  # standardised for torch
        raw_values = prepare(source, data, indices, "sklearn").train.inputs
        assert np.array_equal(raw_values, data.inputs[indices.train])

    def test_standardize_overrules_the_framework(self) -> None:
        for framework, asked in (("torch", False), ("sklearn", True)):
            source = self.source("iris", standardize=asked)
            data = source.load(0)
            prepared = prepare(source, data, split(data, None, 0), framework)  # type: ignore[arg-type]
            assert bool(abs(prepared.train.inputs.mean()) < 1e-6) is asked

    def test_regression(self) -> None:
        source = self.source("diabetes")
        data = source.load(0)
        indices = split(data, None, 0)
        prepared = prepare(source, data, indices)
        assert prepared.train.targets.shape == (264, 1)
        assert prepared.train.targets.dtype == np.float64
        assert prepared.preprocessing.target_mean is not None
        assert prepared.preprocessing.target_mean[0] == pytest.approx(data.targets[indices.train].mean())
        exact = prepare(source, data, indices, "sklearn").train.targets
        assert np.array_equal(exact[:, 0], data.targets[indices.train])

    def test_fingerprint_depends_on_content_splits_and_preprocessing(self) -> None:
        source = self.source("iris")
        data = source.load(0)
        seen = {
            prepare(source, data, split(data, None, 0)).fingerprint,
            prepare(source, data, split(data, None, 1)).fingerprint,
            prepare(self.source("iris", standardize=False), data, split(data, None, 0)).fingerprint,
            prepare(source, self.source("wine").load(0), split(data, None, 0)).fingerprint,
        }
        assert len(seen) == 4
        assert prepare(source, source.load(5), split(data, None, 0)).fingerprint in seen

    def test_weights_and_empty_splits(self) -> None:
        data = raw(np.ones((4, 2)), weights=np.array([1, 2, 3, 4.0]))
        none = np.empty(0, np.int64)
        prepared = prepare(self.source("iris"), data, SplitIndices(np.array([2, 0]), none, np.array([1])))
        assert prepared.validation is None
        assert prepared.train.weights is not None
        assert prepared.train.weights.tolist() == [3, 1]
        assert prepared.train.weights.dtype == np.float32

    def test_lengths_must_agree(self) -> None:
        data = raw(np.ones((3, 2)), targets=np.array([0, 1]))
        with pytest.raises(InputError, match="3 inputs, but 2 targets"):
            prepare(self.source("iris"), data, SplitIndices(np.arange(2), np.arange(0), np.arange(0)))
