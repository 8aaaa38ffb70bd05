"""Random search spaces for Hypothesis: every kind of parameter, conditions nested."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from modelopt_cli.tuning.space.space import Space, SpaceError

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), FINITE, st.text(max_size=3))


@st.composite
def floats(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        low, high = sorted([draw(st.floats(1e-8, 1e8)), draw(st.floats(1e-8, 1e8))])
        return {"float": [low, high], "log": True}
    low, high = sorted([draw(FINITE), draw(FINITE)])
    spec: dict[str, Any] = {"float": [low, high]}
    if draw(st.booleans()):
        spec["step"] = max((high - low) / draw(st.integers(1, 20)), 1e-3)
    return spec


@st.composite
def ints(draw: st.DrawFn) -> dict[str, Any]:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    spec: dict[str, Any] = {"int": [low, low + draw(st.integers(0, 50))], "log": log}
    if not log and draw(st.booleans()):
        spec["step"] = draw(st.integers(1, 7))
    return spec


UNIQUE = st.lists(PLAIN, min_size=1, max_size=4, unique_by=repr)


def small(spec: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    @st.composite
    def section(draw: st.DrawFn) -> dict[str, Any]:
        branches = []
        for index in range(draw(st.integers(1, 3))):
            keys = draw(st.lists(st.sampled_from("pqr"), unique=True, max_size=2))
            branches.append({"type": index, **{key: draw(spec) for key in keys}})
        return {"choice": branches}

    return section()


LEAF = st.one_of(floats(), ints(), UNIQUE.map(lambda values: {"choice": values}), UNIQUE.map(lambda v: {"ordinal": v}))
SPECS = st.dictionaries(
    st.sampled_from(["m", "n.o", "t.lr", "z"]), st.recursive(LEAF, small, max_leaves=6), min_size=1, max_size=3
)


def spaces(specs: st.SearchStrategy[dict[str, Any]] = SPECS) -> st.SearchStrategy[Space]:
    return specs.map(_space_or_none).filter(lambda space: space is not None)  # type: ignore[return-value]


def _space_or_none(spec: dict[str, Any]) -> Space | None:
    try:
        return Space.from_spec(spec)
    except SpaceError:  # 0.0 beside -0.0 is the one mistake that the strategy above may make
        return None
