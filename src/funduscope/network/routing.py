"""Experts chosen by a photo's content, of which only the chosen are computed: gate, dispatch, losses, ONNX.

Gate and balance: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer",
ICLR 2017; Fedus et al., "Switch Transformers", JMLR 23(120), 2022. Router z-loss: Zoph et al., "ST-MoE", 2022. A gate a
task over shared experts: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018. Differs: a gate sees the mean of a photo's deepest map instead of a token; an expert has
no capacity beyond which it drops photos; experts may be kept by their mass (top_p); kept gates always sum to 1, so that
a mix has the same scale with any number of experts.

B photos, C channels, E experts, T mixes of one input (tasks), R routers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from funduscope.settings import Experts

_TINY = 1e-12
NEGLECTED = 0.02
"""An expert that is computed for a smaller share of an epoch's photos, or has less of the gates' weight, hardly learns,
and the training warns."""


@dataclass(frozen=True)
class Routed:
    """The output of a gate.

    gates: shares of the kept experts, summing to 1 per photo; 0 for an expert that is not computed. logits: from which
    the shares come.
    """

    gates: Float[Tensor, "B E"]
    logits: Float[Tensor, "B E"]


class Gate(nn.Module):
    """One linear layer from a photo's pooled features to shares of the experts, of which some are kept.

    settings.keep: all; top_k, the k with the largest shares; top_p, the fewest whose shares sum to at least
    settings.top_p while training, settings.top_p_predict otherwise. Where the experts are whole heads the shares are
    sigmoid scores, which may sum to less than top_p: then all are kept. Logits are float32 under mixed precision too,
    as in Switch, section 2.4.
    """

    def __init__(self, channels: int, settings: Experts) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, settings.count)
        self.settings = settings
        self.keeps_all_now = False
        """Set by the training: in the first part of it all experts are kept (`Experts.every_until`)."""

    def forward(self, pooled: Tensor) -> Routed:
        """(B, C) to gates.

        Of shares by softmax: a photo's only expert has gate 1 whatever its logit. The true gradient of this gate is
        zero, so that only the balance loss would train it. Instead the gradient of the logarithm of the share is used:
        Switch's, which multiplies by the share, on a scale that does not depend on it.
        """
        with torch.autocast(pooled.device.type, enabled=False):
            logits = self.linear(pooled.float())
        sigmoid = self.settings.kind == "heads"
        shares = logits.sigmoid() if sigmoid else logits.softmax(1)
        kept = self._kept(shares.detach()) * shares
        total = kept.sum(1, keepdim=True)
        if sigmoid:
            return Routed(kept / total, logits)
        alone = (kept != 0).sum(1, keepdim=True) == 1
        return Routed(kept / torch.where(alone, total.detach(), total), logits)

    def _kept(self, shares: Tensor) -> Tensor:
        """(B, E): 1 where an expert is kept, 0 otherwise."""
        settings = self.settings
        if settings.keep == "all" or (self.keeps_all_now and self.training):
            return torch.ones_like(shares)
        ranked, order = shares.sort(dim=1, descending=True)
        if settings.keep == "top_k":
            first = torch.arange(settings.count, device=shares.device).expand_as(shares) < settings.top_k
        else:
            # Kept while the shares before it sum to less than top_p.
            first = ranked.cumsum(1) - ranked < (settings.top_p if self.training else settings.top_p_predict)
        return torch.zeros_like(shares).scatter(1, order, first.to(shares.dtype))


class Dispatch(nn.Module):
    """Sums of gate times expert; an expert is computed only for the photos that keep it.

    experts: modules from (B, ...) to (B, ...) with as many axes; all return the same shape. Their BatchNorm sees only
    the photos that keep them; a single photo with a single value per channel has no variance, so it takes the running
    statistics. In ONNX, see `traced`, an expert is computed for the whole batch if any photo keeps it. keeps_all: the
    gates keep all experts of every photo, so that in ONNX none needs a condition.
    """

    def __init__(self, experts: Sequence[nn.Module], keeps_all: bool = False) -> None:
        super().__init__()
        self.keeps_all = keeps_all
        self.experts = nn.ModuleList(experts)
        self.branches = nn.ModuleList()  # filled by `traced` alone

    def forward(self, x: Tensor, gates: Tensor) -> Tensor | list[Tensor]:
        """x (B, ...). gates (B, E) for one mix, (B, T, E) for a list of T mixes of the same experts.

        Raises `ValueError` if no photo keeps any expert, since the output's shape is then unknown.
        """
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return self._traced(x, gates) if len(self.branches) else self.dense(x, gates)
        each = gates if gates.dim() == 3 else gates[:, None]
        mixes: list[Tensor] = []
        # Not `> 0`: NaN must propagate.
        kept = (each.detach() != 0).any(1)
        for index, expert in enumerate(self.experts):
            photos = kept[:, index].nonzero().squeeze(1)
            if len(photos) == 0:
                continue
            part = _computed(expert, x if len(photos) == len(x) else x.index_select(0, photos))
            weighted = [_like(one, part) * part for one in each[photos, :, index].unbind(1)]
            mixes = mixes or [one.new_zeros(len(x), *one.shape[1:]) for one in weighted]
            for mix, one in zip(mixes, weighted, strict=True):
                mix.index_add_(0, photos, one)
        if not mixes:
            raise ValueError("No photo keeps any expert: every row of gates needs one that is not 0.")
        return mixes if gates.dim() == 3 else mixes[0]

    def dense(self, x: Tensor, gates: Tensor) -> Tensor | list[Tensor]:
        """The same sums with every expert computed for every photo: the reference for `forward`."""
        return _mixed([expert(x) for expert in self.experts], gates)

    def _traced(self, x: Tensor, gates: Tensor) -> Tensor | list[Tensor]:
        """The same sums with each expert behind a condition that stays in the graph."""
        nothing = x.new_zeros([1] * x.dim())
        kept = gates != 0
        return _mixed([branch(x, kept[..., i].any(), nothing) for i, branch in enumerate(self.branches)], gates)


def _mixed(parts: list[Tensor], gates: Tensor) -> Tensor | list[Tensor]:
    """Sums over experts of gate times part, each (B, ...) or broadcastable to it."""
    each = gates.unbind(1) if gates.dim() == 3 else (gates,)
    mixes = [reduce(torch.add, [_like(one[:, i], part) * part for i, part in enumerate(parts)]) for one in each]
    return mixes if gates.dim() == 3 else mixes[0]


def _like(share: Tensor, part: Tensor) -> Tensor:
    """(B,) with as many axes as the part."""
    return share.view(-1, *[1] * (part.dim() - 1))


def _computed(expert: nn.Module, photos: Tensor) -> Tensor:
    """The expert's output. Where a channel has a single value, BatchNorms use their running statistics."""
    if photos[:, 0].numel() > 1:
        return expert(photos)
    training = [norm for norm in expert.modules() if isinstance(norm, _BatchNorm) and norm.training]
    for norm in training:
        norm.eval()
    try:
        return expert(photos)
    finally:
        for norm in training:
            norm.train()


class SharedExperts(nn.Module):
    """Experts on the deepest map that the tasks share: one router for all tasks, or a gate per task.

    An expert is a bottleneck of `settings.width` channels. A task's map is the ReLU of the map plus its mix of experts.
    tasks: names. settings.kind: mixture (one router, "all") or soft (one per task), otherwise `ValueError`.
    """

    def __init__(self, channels: int, tasks: Sequence[str], settings: Experts) -> None:
        super().__init__()
        if settings.kind not in ("mixture", "soft"):
            raise ValueError(f"experts.kind {settings.kind!r} has no experts on the shared map; mixture and soft have.")
        self.tasks = list(tasks)
        routers = ["all"] if settings.kind == "mixture" else self.tasks
        self.gates = nn.ModuleDict({name: Gate(channels, settings) for name in routers})
        self.dispatch = Dispatch(
            [_expert(channels, settings.width) for _ in range(settings.count)], settings.keep == "all"
        )

    def forward(self, deepest: Tensor) -> tuple[dict[str, Tensor], dict[str, Routed]]:
        """(B, C, h, w) to a map of that shape for every task, and the output of every router."""
        pooled = deepest.mean(dim=(2, 3))
        routed: dict[str, Routed] = {name: gate(pooled) for name, gate in self.gates.items()}
        mixes = self.dispatch(deepest, torch.stack([one.gates for one in routed.values()], 1))
        maps = {name: torch.relu(deepest + mix) for name, mix in zip(routed, mixes, strict=True)}
        return {task: maps.get(task, next(iter(maps.values()))) for task in self.tasks}, routed


def _expert(channels: int, width: int) -> nn.Sequential:
    """A bottleneck as in ResNet (He et al. 2016), without its sum and last ReLU, which the mix has."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def routing_sums(routed: dict[str, Routed], settings: Experts) -> dict[str, Tensor]:
    """By router, `routing NAME`: sums over photos that add up over the processes which share a batch.

    (3 E + 2,): for each expert the sum of its shares; the photos that keep it; the sum of its gates; then the sum of
    the squared logarithms of the sum of exponentials (of sigmoid scores: of their negative entropy); and the photos.
    """
    sums = {}
    for name, one in routed.items():
        logits, gates = one.logits.float(), one.gates.detach().float()
        if settings.kind == "heads":
            shares = logits.sigmoid()
            scaled = shares / shares.sum(1, keepdim=True)
            penalty = (scaled * scaled.clamp(min=_TINY).log()).sum()
        else:
            shares, penalty = logits.softmax(1), logits.logsumexp(1).square().sum()
        each = [shares.sum(0), (gates != 0).float().sum(0), gates.sum(0)]
        sums[f"routing {name}"] = torch.cat([*each, torch.stack([penalty, penalty.new_tensor(float(len(logits)))])])
    return sums


def routing_loss_of(sums: dict[str, Tensor], settings: Experts) -> Tensor | None:
    """The mean over routers of their losses, from the sums of a whole batch; None without routers.

    settings.balance times the load-balancing loss plus settings.z times the router z-loss. Where experts are whole
    heads: settings.sparsity times the mean score, settings.balance times the divergence of the batch's mean scores from
    uniform, settings.entropy times the negative entropy of a photo's scores. sums: from `routing_sums`; other names
    among them are passed over.
    """
    terms = []
    for shares, taken, _, penalty, count in _by_router(sums).values():
        mean = shares / count
        if settings.kind == "heads":
            load = mean / mean.sum()
            even = (load * (load.clamp(min=_TINY) * len(load)).log()).sum()
            terms.append(settings.sparsity * mean.mean() + settings.balance * even + settings.entropy * penalty / count)
        else:
            balance = balance_loss(mean, taken, kept_all=bool((taken == count).all()))
            terms.append(settings.balance * balance + settings.z * penalty / count)
    return torch.stack(terms).mean() if terms else None


def _by_router(sums: dict[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
    """By router: shares, taken, gates, each (E,), then the z sum and the number of photos."""
    found = {}
    for name, values in sums.items():
        if name.startswith("routing "):
            shares, taken, gates = values[:-2].chunk(3)
            found[name.removeprefix("routing ")] = (shares, taken, gates, values[-2], values[-1])
    return found


def balance_loss(mean: Tensor, taken: Tensor, kept_all: bool) -> Tensor:
    """E times the sum over experts of load times mean share: 1 if both are uniform, E if one expert takes all.

    mean (E,): of the softmax over all experts, through which the gradient flows (Switch, equation 4, for any number
    kept). taken (E,): the photos that keep each; the load is the expert's part of them, a count without gradient.
    kept_all: every photo kept every expert. The load is then uniform and would teach nothing, so the mean share
    replaces it: 1 plus the squared coefficient of variation, Shazeer's importance loss.
    """
    return len(mean) * ((mean if kept_all else taken / taken.sum()) * mean).sum()


class ExpertUsage:
    """Which expert computed which share of the photos: sums over an epoch, by router."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, sums: dict[str, Tensor]) -> None:
        """Adds a batch's `routing_sums`."""
        for name, values in sums.items():
            if name.startswith("routing "):
                self.sums[name] = values.detach() + self.sums.get(name, 0)

    def numbers(self) -> dict[str, float]:
        """For each router NAME, `experts NAME i`: the share of photos for which expert i was computed.

        `experts NAME i weight`: the expert's part of the gates, which tells experts apart where all are computed.
        `experts NAME entropy`: of the mean gates, 1 if all experts carry the same. `experts NAME chosen`: experts
        computed per photo.
        """
        numbers: dict[str, float] = {}
        for name, (_, taken, gates, _, count) in _by_router(self.sums).items():
            mean, computed = gates / count, taken / count
            numbers |= {f"experts {name} {index}": float(share) for index, share in enumerate(computed)}
            weights = gates / gates.sum()
            numbers |= {f"experts {name} {index} weight": float(weight) for index, weight in enumerate(weights)}
            entropy = -(mean * mean.clamp(min=_TINY).log()).sum() / torch.log(torch.tensor(float(len(mean))))
            numbers |= {f"experts {name} entropy": float(entropy), f"experts {name} chosen": float(computed.sum())}
        return numbers

    def neglected(self) -> list[str]:
        """A sentence for each expert that was computed for less than `NEGLECTED` of the photos, or has less of the
        gates' weight."""
        return [
            f"The router of {name} hardly uses expert {index}, which then hardly learns: computed for {computed:.1%} "
            f"of the photos, {weight:.1%} of the weight; expected at least {NEGLECTED:.0%} of both. Raise "
            "experts.balance or experts.every_until."
            for name, (_, taken, gates, _, count) in _by_router(self.sums).items()
            for index, (computed, weight) in enumerate(
                zip((taken / count).tolist(), (gates / gates.sum()).tolist(), strict=True)
            )
            if min(computed, weight) < NEGLECTED
        ]


class _Branch(nn.Module):
    """An expert behind a condition. Scripted, so that tracing keeps the condition instead of its present value."""

    def __init__(self, expert: nn.Module) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, x: Tensor, wanted: Tensor, nothing: Tensor) -> Tensor:
        # A copy: tracing identifies tensors by identity, and would confuse the outputs of two branches.
        return self.expert(x) if bool(wanted) else nothing.clone()


def traced(network: nn.Module, example: Tensor) -> nn.Module:
    """What `torch.onnx.export` (TorchScript exporter) takes so that experts become the branches of `If` nodes.

    network: in eval mode, taking one tensor, `example`. Without any `Dispatch` it is returned unchanged; one that
    always computes every expert gets no conditions. The exporter's own tracing refuses scripted parts inside a module;
    `torch.jit.trace` does not, and its result is exported as it is.
    """
    dispatches = [module for module in network.modules() if isinstance(module, Dispatch) and not module.keeps_all]
    if not dispatches:
        return network
    if network.training or any(dispatch.training for dispatch in dispatches):
        raise ValueError("A network is traced for prediction: call .eval() on it first.")
    try:
        with warnings.catch_warnings():
            # TorchScript is discouraged for new uses; the exporter that keeps every size dynamic is built on it.
            warnings.filterwarnings("ignore", r".*torch\.jit\..* is deprecated")
            for dispatch in dispatches:
                dispatch.branches = _scripted(dispatch.experts)
            return torch.jit.trace(network, (example,), check_trace=False)  # pyright: ignore[reportReturnType]
    finally:
        for dispatch in dispatches:
            dispatch.branches = nn.ModuleList()


def _scripted(experts: Iterable[nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(torch.jit.script(_Branch(expert).eval()) for expert in experts)
