"""Trials of groups on copies of one module: all at once, or each bundle by itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.attributes import Links
from modelopt_cli.models.graph.axes import Keep, Mask, Prime
from modelopt_cli.models.graph.capture import Captured
from modelopt_cli.models.graph.constants import Constants
from modelopt_cli.models.graph.reads import Reads, read_by
from modelopt_cli.models.graph.surgery import Trial, stirred, trial
from modelopt_cli.models.graph.ties import Bundle, losing

SHARES = (1 / 3, 1 / 2)
"""Of its units, that a bundle loses when it is tried by itself."""


class Trials:
    """`module` is a copy; batches of two sizes, where the graph takes them."""

    def __init__(self, module: nn.Module, captured: Captured, analysis: Analysis, inputs: Tensor) -> None:
        self.analysis = analysis
        self.module, self.graph = stirred(module, captured.graph)
        self.constants = Constants(captured.graph, analysis)
        self.batches = [inputs[:2], torch.cat([inputs, inputs])[:3]] if captured.dynamic else [captured.example]

    def reads(self) -> Reads | None:
        """Which integers the module reads; None where it does not run with integers that are watched."""

        def run() -> object:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.module(self.batches[0])

        try:
            return read_by(self.module, run)
        except Exception:
            return None

    def fails(self, links: Links, bundles: Iterable[Bundle]) -> str:
        """Why these fail together, each losing another number of units; "" if they work."""
        listed = list(bundles)
        for seed in (0, 1):
            generator = np.random.default_rng(seed)
            keep: dict[Prime, Mask] = {}
            for bundle in listed:
                share = float(generator.uniform(0.2, 0.6))
                keep.update(losing(bundle, share, generator))
            outcome = self._tried(links, keep)
            if not outcome.ok:
                return outcome.reason
        return ""

    def fails_alone(self, links: Links, bundle: Bundle) -> str:
        """Why the bundle fails by itself; "" if it works."""
        for share in SHARES:
            keep = losing(bundle, share, np.random.default_rng(0))
            outcome = self._tried(links, keep)
            if not outcome.ok:
                return outcome.reason
        return ""

    def _tried(self, links: Links, keep: Keep) -> Trial:
        return trial(self.module, self.graph, self.analysis, keep, self.batches, links)

    def operated(self, keep: Keep) -> Trial:
        """What changes besides attributes that are linked; nothing is run."""
        return trial(self.module, self.graph, self.analysis, keep, (), Links(self.constants, {}))
