"""What Torch-Pruning makes of the networks of `_zoo`, used as its README and its examples show; JSON, one line each.

    /path/to/peers/bin/python scripts/bench/_zoo_peer.py [NAME...] [--out FILE]

Runs in an environment of its own (torch, torch-pruning 1.6.1, transformers, numpy, pydantic, pyyaml, lazy_loader). Each
network gets a process and up to six attempts: head sizes pruned, whole heads pruned (its recipe for language models),
or attention left alone, each traced with a batch of one as in the README and with three; what is reported is the
attempt that runs and reaches most parameters. Attributes such as `head_dim` are mended as its examples mend them, and
what the library does not know is replaced by what it knows: GPT-2's transposed layers by linear ones, modelopt's
attention by torch's. `correct` is what a careful user gets: the best attempt of which every group passes the oracle, if
need be with layers left alone. `removed` and `coverage` are shares of the parameters outside the embeddings and the
output layer: what a step at ratio 0.5 removes, and what sits in tensors of which some dimension shrank.

The oracle takes one group at a time: what the group removes is silenced in the dense network, on both sides, which
must then give the same outputs as the pruned one. What is removed is read off numbers written into the parameters
before they are pruned, not off the peer's own account of it.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp  # type: ignore[import-not-found]
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.support.zoo import ZOO, EinsumAttention, Entry, MixerBlock, VitBlock, counted, make

LIMIT = 600  # seconds for one network
GROUPS = 60  # at most so many are put to the oracle
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
AGREES = 1e-4  # relative error up to which two networks are the same


@dataclass(frozen=True)
class Attempt:
    """One way to use the library."""

    heads: str  # "sizes", "whole" or "alone"
    batch: int
    spared: tuple[str, ...] = ()  # layers left alone because pruning them goes wrong


class PatchMergingPruner(tp.BasePruningFunc):  # type: ignore[misc]
    """Swin's patch merging, as in examples/transformers/prune_hf_swin.py: four patches lie side by side."""

    def prune_out_channels(self, layer: Any, idxs: list[int]) -> Any:
        """Outputs of the reduction."""
        tp.prune_linear_out_channels(layer.reduction, idxs)
        return layer

    def prune_in_channels(self, layer: Any, idxs: list[int]) -> Any:
        """The same channels of all four patches."""
        size = self.get_in_channels(layer)
        repeated = [each + patch * size for patch in range(4) for each in idxs]
        tp.prune_linear_in_channels(layer.reduction, repeated)
        tp.prune_layernorm_out_channels(layer.norm, repeated)
        return layer

    def get_out_channels(self, layer: Any) -> int:
        """Features after."""
        return int(layer.reduction.out_features)

    def get_in_channels(self, layer: Any) -> int:
        """Features of one patch before."""
        return int(layer.reduction.in_features) // 4


class SelfAttention(nn.MultiheadAttention):
    """torch's own in place of modelopt's, which has the same parameters; the library knows this one."""

    def forward(self, hidden: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, width) -> the same."""
        attended: Tensor = super().forward(hidden, hidden, hidden, need_weights=False)[0]
        return attended


def network(name: str) -> nn.Module:
    """The prepared network, Conv1D layers made linear, modelopt's attention torch's."""
    model = make(name)
    layer: Any
    for module in list(model.modules()):
        for child, layer in module.named_children():
            if type(layer).__name__ == "Conv1D":
                linear = nn.Linear(*layer.weight.shape)
                linear.weight.data.copy_(layer.weight.data.T)
                linear.bias.data.copy_(layer.bias.data)
                setattr(module, child, linear)
            elif type(layer).__module__.startswith("modelopt_cli.") and hasattr(layer, "in_proj_weight"):
                attention = SelfAttention(layer.out_proj.in_features, layer.heads, batch_first=True)
                attention.load_state_dict(layer.state_dict())
                setattr(module, child, attention)
    return model.eval()


def queries(module: Any) -> tuple[list[nn.Module], list[int]]:
    """The layers of an attention module that make queries, keys and values, and the heads of each."""
    kind = type(module).__name__
    if isinstance(module, VitBlock):
        return [module.qkv], [4]
    if isinstance(module, EinsumAttention):
        return [module.query, module.key, module.value], [4] * 3
    if kind == "GPT2Attention":
        return [module.c_attn], [module.num_heads]
    if kind == "BertSelfAttention":
        return [module.query, module.key, module.value], [module.num_attention_heads] * 3
    if kind == "T5Attention":
        return [module.q, module.k, module.v], [module.n_heads] * 3
    if kind == "SwinAttention":
        return [module.q_proj, module.k_proj, module.v_proj], [module.num_attention_heads] * 3
    if kind == "LlamaAttention":
        config = module.config
        return (
            [module.q_proj, module.k_proj, module.v_proj],
            [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads],
        )
    return [], []


def mend(model: nn.Module, heads: dict[nn.Module, int]) -> None:
    """Attributes that state sizes, set to what is left, as the examples do by hand."""
    module: Any
    for module in model.modules():
        kind = type(module).__name__
        if kind == "GPT2Attention":
            left = heads.get(module.c_attn, module.num_heads)
            module.embed_dim = module.split_size = module.c_attn.out_features // 3
            module.num_heads, module.head_dim = left, module.split_size // left
        elif kind == "BertSelfAttention":
            module.num_attention_heads = heads.get(module.query, module.num_attention_heads)
            module.all_head_size = module.query.out_features
            module.attention_head_size = module.all_head_size // module.num_attention_heads
        elif kind == "T5Attention":
            module.n_heads = heads.get(module.q, module.n_heads)
            module.inner_dim = module.q.out_features
            module.key_value_proj_dim = module.inner_dim // module.n_heads
        elif kind == "SwinAttention":
            module.num_attention_heads = heads.get(module.q_proj, module.num_attention_heads)
            module.head_dim = module.q_proj.out_features // module.num_attention_heads
        elif kind == "LlamaAttention":
            module.num_key_value_groups = module.q_proj.out_features // module.k_proj.out_features


def outputs(entry: Entry, model: nn.Module) -> list[nn.Module]:
    """What must keep its width: the output layer; of T5's encoder, what writes into the residual stream last."""
    listed = []
    for name, module in model.named_modules():
        own = [f"{name}.{each}" for each, _ in module.named_parameters(recurse=False)]
        ends = own and all(any(fnmatchcase(each, glob) for glob in entry.output) for each in own)
        if ends and not isinstance(module, nn.Embedding) and hasattr(module, "weight"):
            listed.append(module)
        if type(module).__name__ == "T5LayerFF":
            last = module.DenseReluDense.wo
    return listed or [last]


def pruner(entry: Entry, model: nn.Module, attempt: Attempt, ratio: float) -> Any:
    """MagnitudePruner for the model; building it builds the dependency graph."""
    ignored, heads, channel_groups = outputs(entry, model), dict[nn.Module, int](), dict[nn.Module, int]()
    ignored += [model.get_submodule(each) for each in attempt.spared]
    custom: dict[type, Any] = {}
    roots = [*LAYERS, nn.LSTM]
    for module in model.modules():
        layers, counts = queries(module)
        if attempt.heads == "alone":
            ignored += [*layers, *([module] if isinstance(module, nn.MultiheadAttention) else [])]
        else:
            heads.update(zip(layers, counts, strict=True))
            if isinstance(module, nn.MultiheadAttention):
                channel_groups[module] = module.num_heads
        if isinstance(module, MixerBlock):
            channel_groups[module.gated] = 2  # as the examples treat gate_up_proj
        if type(module).__name__ == "SwinPatchMerging":
            custom[type(module)] = PatchMergingPruner()
            roots += [nn.LayerNorm, type(module)]
    whole = attempt.heads == "whole"
    return tp.pruner.MagnitudePruner(
        model,
        entry.inputs(attempt.batch),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=ignored,
        num_heads=heads,
        out_channel_groups=channel_groups,
        prune_head_dims=not whole,
        prune_num_heads=whole,
        head_pruning_ratio=ratio if whole else 0.0,
        customized_pruners=custom,
        root_module_types=roots,
    )


def prune(name: str, attempt: Attempt) -> dict[str, Any]:
    """One step at ratio 0.5: whether the result runs, what is left, which share of parameters was reached."""
    entry, model = ZOO[name], network(name)
    before = {each: parameter.shape for each, parameter in counted(name, model)}
    total = sum(each.numel() for each in model.parameters())
    start = time.perf_counter()
    made = pruner(entry, model, attempt, 0.5)
    built = time.perf_counter()
    made.step()
    done = time.perf_counter()
    mend(model, made.num_heads)
    with torch.no_grad():
        model(entry.inputs(5))
    after = {each: parameter.shape for each, parameter in counted(name, model)}
    inner = sum(shape.numel() for shape in before.values())
    left = sum(shape.numel() for shape in after.values())
    reached = sum(shape.numel() for each, shape in before.items() if after.get(each) != shape)
    return {
        "graph_seconds": round(built - start, 3),
        "prune_seconds": round(done - built, 3),
        "parameters": [total, sum(each.numel() for each in model.parameters())],
        "inner_parameters": [inner, left],
        "removed": round(1 - left / inner, 4),
        "coverage": round(reached / inner, 4),
    }


@torch.no_grad()
def silenced(dense: nn.Module, pruned: nn.Module) -> nn.Module:
    """A copy of `dense` in which what `pruned` lost is zero; gives `pruned`, whose weights are places, their values.

    Names that share a tensor are all looked up, for the library unties what was tied.
    """
    copied = copy.deepcopy(dense)
    whole = dict(copied.named_parameters(remove_duplicate=False))
    for name, parameter in pruned.named_parameters():
        values, places = whole[name].flatten().clone(), parameter.round().long()
        removed = torch.ones(len(values), dtype=torch.bool)
        removed[places.flatten()] = False
        values[removed] = 0.0
        whole[name].copy_(values.view_as(whole[name]))
        parameter.copy_(values[places])
    return copied


def is_statistic(module: nn.Module) -> bool:
    """A norm over units: without some of them it means something else, which is nobody's error."""
    name = type(module).__name__
    return "Norm" in name and "BatchNorm" not in name and "InstanceNorm" not in name


def one_group(name: str, attempt: Attempt, number: int) -> dict[str, Any] | None:
    """The oracle on the group at this place; None when there is no such group."""
    entry, dense = ZOO[name], network(name)
    model = copy.deepcopy(dense)
    made = pruner(entry, model, attempt, 1 / 3)
    group = next((each for count, each in enumerate(made.step(interactive=True)) if count == number), None)
    if group is None:
        return None
    return {"root": made.DG._module2name[group[0].dep.target.module], **judge(entry, dense, model, made, group.prune)}


def all_groups(name: str, attempt: Attempt) -> dict[str, Any]:
    """The oracle on a whole step at ratio 0.5, its groups replayed from the library's own record of them."""
    entry, dense = ZOO[name], network(name)
    made = pruner(entry, copy.deepcopy(dense), attempt, 0.5)
    try:
        made.step()
    except Exception as error:
        return {"failed": one_line(error)}
    again = copy.deepcopy(dense)
    graph = pruner(entry, again, attempt, 0.5).DG
    return judge(entry, dense, again, made, lambda: graph.load_pruning_history(made.DG.pruning_history()))


def judge(entry: Entry, dense: nn.Module, model: nn.Module, made: Any, cut: Callable[[], None]) -> dict[str, Any]:
    """How far `model` after `cut` is from `dense` with the same parts silenced, or how it failed."""
    shapes = {each: parameter.shape for each, parameter in model.named_parameters(remove_duplicate=False)}
    for parameter in model.parameters():
        parameter.data = torch.arange(parameter.numel(), dtype=parameter.dtype).view_as(parameter)
    outcome: dict[str, Any] = {}
    try:
        cut()
        mend(model, made.num_heads)
        reference = silenced(dense, model)
        owners = dict(model.named_modules())
        changed = [each for each, parameter in model.named_parameters() if parameter.shape != shapes[each]]
        outcome["statistic"] = any(is_statistic(owners[each.rpartition(".")[0]]) for each in changed)
        torch.manual_seed(1)
        batch = entry.inputs(5)
        with torch.no_grad():
            plain, expected, got = dense(batch), reference(batch), model(batch)
        outcome["error"] = relative(got, expected)
        outcome["effect"] = relative(expected, plain)
    except Exception as error:
        outcome["failed"] = one_line(error)
    return outcome


def relative(got: Tensor, expected: Tensor) -> float:
    """Largest difference in units of the largest output."""
    return float((got - expected).abs().max() / expected.abs().max())


def oracle(name: str, attempt: Attempt) -> dict[str, Any]:
    """One group at a time: how many agree, how far off the worst is."""
    try:
        groups, together = list(each_group(name, attempt)), all_groups(name, attempt)
    except Exception as error:
        return {"error": one_line(error)}
    exact = [each for each in groups if "error" in each and not each["statistic"]]
    return {
        "groups": len(groups),
        "of_a_norm": sum(each.get("statistic", False) for each in groups),
        "compared": len(exact),
        "agree": sum(each["error"] <= AGREES for each in exact),
        "first": exact[0]["error"] if exact else None,
        "worst": max((each["error"] for each in exact), default=None),
        "least_effect": min((each["effect"] for each in exact), default=None),  # of silencing on the dense network
        "together": None if together.get("statistic") else together.get("error", together.get("failed")),
        "wrong": [[each["root"], each["error"]] for each in exact if each["error"] > AGREES],
        "failed": [[each["root"], each["failed"]] for each in groups if "failed" in each],
    }


def passes(judged: dict[str, Any]) -> bool:
    """Whether every group ran and agreed, and all together, where a norm does not forbid the comparison."""
    if "error" in judged or judged["wrong"] or judged["failed"]:
        return False
    together = judged["together"]
    return together is None or (not isinstance(together, str) and together <= AGREES)


def each_group(name: str, attempt: Attempt) -> Iterator[dict[str, Any]]:
    """The oracle on every group, up to the limit."""
    for number in range(GROUPS):
        outcome = one_group(name, attempt, number)
        if outcome is None:
            return
        yield outcome


def report(name: str) -> dict[str, Any]:
    """The best of all attempts, the oracle on it, and the best that is correct."""
    attends = any(queries(each)[0] or isinstance(each, nn.MultiheadAttention) for each in network(name).modules())
    kinds = ["sizes", "whole", "alone"] if attends else ["sizes"]
    tried = {each: attempted(name, each) for each in (Attempt(kind, batch) for kind in kinds for batch in (1, 3))}
    best = max(tried, key=lambda each: rank(tried[each]))
    record = {"name": name, "heads": best.heads if attends else None, "batch": best.batch, **tried[best]}
    record["errors"] = {f"{each.heads}, batch {each.batch}": it["error"] for each, it in tried.items() if it["error"]}
    if ZOO[name].slow:
        return {**record, "oracle": None, "correct": None}
    record["oracle"] = oracle(name, best)
    return {**record, "correct": correct(name, kinds)}


def attempted(name: str, attempt: Attempt) -> dict[str, Any]:
    """`prune`, or why it failed."""
    try:
        return {"ok": True, "error": None, **prune(name, attempt)}
    except Exception as error:
        return {"ok": False, "error": one_line(error)}


def rank(outcome: dict[str, Any]) -> tuple[bool, float, float]:
    """What runs is best, then what reaches most, then what removes most."""
    return outcome["ok"], outcome.get("coverage", 0.0), outcome.get("removed", 0.0)


def correct(name: str, kinds: list[str]) -> dict[str, Any] | None:
    """The best attempt that is right throughout; where one goes wrong, again without the layers where it did."""
    good = []
    for kind in kinds:
        attempt = Attempt(kind, 1)
        judged = oracle(name, attempt)
        if "error" in judged:  # it stops before it gives any group: spare one layer after the other
            layers = [each for each, module in network(name).named_modules() if isinstance(module, LAYERS)]
            candidates = [replace(attempt, spared=(each,)) for each in layers]
        else:
            roots = [each for each, _ in judged["wrong"] + judged["failed"]]
            candidates = [replace(attempt, spared=tuple(roots))]
        for each in candidates:
            outcome = attempted(name, each)
            judged = oracle(name, each) if outcome["ok"] else {"error": outcome["error"]}
            if passes(judged):
                keys = ("removed", "coverage", "inner_parameters", "ok")
                good.append({"heads": kind, "spared": each.spared, **{key: outcome[key] for key in keys}})
    return max(good, key=rank, default=None)


def one_line(error: Exception) -> str:
    """Its kind and the beginning of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def in_a_process(name: str) -> dict[str, Any]:
    """The report of a child, or why there is none."""
    try:
        child = [sys.executable, __file__, "--child", name]
        done = subprocess.run(child, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"name": name, "ok": False, "error": f"took more than {LIMIT} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"name": name, "ok": False, "error": f"exit status {done.returncode}: {last}"[:200]}
    record: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def main() -> None:
    """All networks, or those named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; default: all")
    parser.add_argument("--out", type=Path, help="file for the whole as JSON")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        print(json.dumps(report(given.names[0])))
        return
    records = []
    for name in given.names or ZOO:
        records.append(in_a_process(name))
        print(json.dumps(records[-1]), flush=True)
    if given.out:
        given.out.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
