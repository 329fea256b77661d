"""Whether a map depends on what the network learned.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: the weights are made random from the answer down to the
first layer, and the map is compared with the original one. A map that does not change shows the photo, not the network.
What differs: each tensor is redrawn with its own mean and deviation, and the statistics of batch normalization are
measured again on photos, so that a random network computes with values of a usual size. Both make the check harder to
pass.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Final

import cv2
import numpy as np
import torch
from research.map_measures import at_side
from torch import nn

from funduscope.network.network import Network

MAX_ALIKE: Final = 0.5
"""The limit, set before any measurement: a map passes where the 95 % interval of its mean absolute rank correlation
with the map of fully random weights ends below it."""


def passes(high: float) -> bool:
    """Whether a map passes. high: the upper end of that interval; nan (nothing was comparable) does not pass."""
    return high < MAX_ALIKE


def cascade(network: Network, images: Sequence[np.ndarray], seed: int) -> Iterator[tuple[str, Network]]:
    """A copy of the network, each time with one more part made random, from the answers to the first layer.

    Yields the name of the part with the copy, which is the same object every time. images: (S, S, 3) uint8, for the
    statistics of batch normalization.
    """
    changed = copy.deepcopy(network).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parts in stages(changed):
        for part in parts:
            randomize(part, generator)
        settle(changed, images)
        yield name, changed


def stages(network: Network) -> list[tuple[str, list[nn.Module]]]:
    """The network's parts from the answers down: heads and decoder, experts, the encoder's own from deep to shallow."""
    top: list[nn.Module] = [network.heads, *([network.decoder] if network.decoder is not None else [])]
    parts: list[tuple[str, list[nn.Module]]] = [("heads", top)]
    if network.shared is not None:
        parts.append(("experts", [network.shared]))
    own = [(name, part) for name, part in network.encoder.body.named_children() if any(True for _ in part.parameters())]
    return parts + [(name, [part]) for name, part in reversed(own)]


def randomize(part: nn.Module, generator: torch.Generator) -> None:
    """Redraws every weight, in place, from a normal distribution with its tensor's mean and deviation."""
    with torch.no_grad():
        for parameter in part.parameters():
            values = parameter.float()
            spread = values.std(unbiased=False) if values.numel() > 1 else values.abs().mean()
            drawn = torch.randn(values.shape, generator=generator) * spread + values.mean()
            parameter.copy_(drawn.to(parameter.dtype))


def settle(network: Network, images: Sequence[np.ndarray]) -> None:
    """Measures the statistics of batch normalization again on photos, in place; without any, nothing changes."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batch
        norm.train()
    batch = torch.from_numpy(np.stack(images))
    with torch.no_grad():
        network(batch)
    for norm in norms:
        norm.eval()


def alike(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> float:
    """The absolute rank correlation of two maps (n, n), in 0..1, over the places where `inside` (any size) is true.

    0 where either is flat: an empty map does not resemble the other. Maps of different sizes are resized to the larger
    one's.
    """
    side = max(len(one), len(other))
    within = cv2.resize(inside.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) > 0.5
    ranks = [_ranks(at_side(plane, side)[within]) for plane in (one, other)]
    if min(float(rank.std()) for rank in ranks) == 0:
        return 0.0
    return float(abs(np.corrcoef(ranks[0], ranks[1])[0, 1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values get their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]
