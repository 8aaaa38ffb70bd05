"""Fourier transforms, which mix all places of a dimension, and complex numbers, which do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modelopt_cli.models.graph.call import Call, Dims, Operator, table

MIXED = "mixed by a Fourier transform"
PARTS = "the parts of a complex number"


def _transformed(dims_of: Callable[[Call], Iterable[int]]) -> Operator:
    """Every result of such a dimension takes all of its places; what lies along the others stands where it stood."""

    def rule(call: Call) -> Dims:
        dims = list(call.tensor(0))
        for dim in dims_of(call):
            call.freeze(dims[dim], MIXED)
            if dims[dim].size != call.shape[dim]:
                dims[dim] = call.new(call.shape[dim], MIXED)
        return dims

    return Operator(rule)


def _one(call: Call) -> Iterable[int]:
    return [call.argument(2, "dim", -1)]


def _last_two(call: Call) -> Iterable[int]:
    return call.argument(2, "dim", (-2, -1))  # type: ignore[no-any-return]


def _several(call: Call) -> Iterable[int]:
    sizes, dims = call.argument(1, "s"), call.argument(2, "dim")
    if dims is not None:
        return dims  # type: ignore[no-any-return]
    rank = len(call.tensor(0))
    return range(rank if sizes is None else rank - len(sizes), rank)


def _shifted(call: Call) -> Iterable[int]:
    dims = call.argument(1, "dim")
    return range(len(call.tensor(0))) if dims is None else [dims] if isinstance(dims, int) else dims


def _windows(call: Call) -> Dims:
    """Short-time transforms: the last dimension becomes frequencies and frames, or these become it."""
    inputs = call.tensor(0)
    rest = 1 if "istft" not in str(call.node.target) else 2
    for axis in inputs[-rest:]:
        call.freeze(axis, MIXED)
    lead = inputs[:-rest]
    return [*lead, *(call.new(size, MIXED) for size in call.shape[len(lead) :])]


def _to_complex(call: Call) -> Dims:
    *rest, parts = call.tensor(0)
    call.freeze(parts, PARTS)
    return rest


def _to_real(call: Call) -> Dims:
    return [*call.tensor(0), call.new(2, PARTS)]


_KINDS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
OPERATORS = {
    **table(_transformed(_one), *(f"fft_{kind}.default" for kind in _KINDS)),
    **table(_transformed(_last_two), *(f"fft_{kind}2.default" for kind in _KINDS)),
    **table(_transformed(_several), *(f"fft_{kind}n.default" for kind in _KINDS)),
    **table(_transformed(_shifted), "fft_fftshift.default", "fft_ifftshift.default"),
    **table(Operator(_windows), "stft.default", "stft.center", "istft.default"),
    **table(Operator(_to_complex), "view_as_complex.default"),
    **table(Operator(_to_real), "view_as_real.default"),
}
