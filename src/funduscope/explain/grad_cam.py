"""Gradient maps: the places of a feature map that an answer depends on.

- Grad-CAM. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
  2017. A channel's weight is the mean of its gradient over the map.
- HiResCAM. Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
  networks", 2020. The gradient of each place times its activation; exact for features read by one linear layer.
- LayerCAM. Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 30, 2021.
  Only gradients in favor of the answer; sharp in shallow layers too, which are joined by their largest value.

What differs: the answer is the log odds of some classes against the rest, as in `explain.class_activation`. For a head
that is linear on pooled features the first two are, at the features that it reads, the exact map without its bias
(Grad-CAM: the positive part): a test proves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from funduscope.explain.class_activation import log_odds_weights
from funduscope.network.network import Network

JOINED_GAIN: Final = 2.0
"""Gain of LayerCAM: shallow maps are scaled by tanh(2 map / largest) before they are joined."""


@dataclass(frozen=True, eq=False)
class Level:
    """One feature map and its gradient, both (C, h, w) float32; the gradient is of the log odds."""

    features: np.ndarray
    gradient: np.ndarray


def levels_of(
    network: Network,
    image: np.ndarray,
    task: str,
    classes: Sequence[int],
    share: float = 1.0,
    answer: np.ndarray | None = None,
) -> list[Level]:
    """The encoder's feature maps, shallow to deep; the last is the one that the task's head reads.

    image: (S, S, 3) uint8, S a multiple of 32. task: "grade" or "dme". classes: of the task, against the rest. share:
    of the network's logits in the answer, such as 1 / temperature; with 0 nothing depends on a place. answer: the
    probabilities (C,) at which their log odds are taken; without them those of the network's own logits. Raises
    `ValueError` if the network has no such head.
    """
    if task not in network.heads:
        raise ValueError(f"This network has no head for {task!r}; it has: {', '.join(network.heads)}.")
    shallow: list[Tensor] = []
    deepest: list[Tensor] = []

    def keep(module: nn.Module, given: Any, pyramid: list[Tensor]) -> None:
        shallow.extend(pyramid[:-1])

    with (
        network.encoder.body.register_forward_hook(keep),  # the tensors in the graph; permuted copies have no gradient
        network.heads[task].register_forward_pre_hook(lambda module, given: deepest.append(given[0])),
        torch.enable_grad(),
    ):
        outputs = network(torch.from_numpy(np.ascontiguousarray(image[None])).to(next(network.parameters()).device))
        logits = outputs.classes[task][0] * share
        if answer is None:
            score = log_odds(logits, classes)
        else:
            score = logits @ torch.from_numpy(log_odds_weights(answer, classes)).to(logits)
        maps = [*shallow, deepest[0]]
        gradients = torch.autograd.grad(score, maps)
    pairs = [[each[0].detach().float().cpu().numpy() for each in pair] for pair in zip(maps, gradients, strict=True)]
    if network.encoder.nhwc:
        pairs[:-1] = [[each.transpose(2, 0, 1) for each in pair] for pair in pairs[:-1]]
    return [Level(*pair) for pair in pairs]


def log_odds(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """log P(classes) - log P(the others) of (C,) logits."""
    inside = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    inside[list(classes)] = True
    return logits[inside].logsumexp(0) - logits[~inside].logsumexp(0)


def grad_cam(level: Level) -> np.ndarray:
    """(h, w) float32, 0 and more."""
    weights = level.gradient.mean(axis=(1, 2))
    return np.maximum(np.tensordot(weights, level.features, axes=1), 0)


def hires_cam(level: Level) -> np.ndarray:
    """(h, w) float32: positive in favor of the classes, negative against them."""
    return (level.gradient * level.features).sum(axis=0)


def layer_cam(level: Level) -> np.ndarray:
    """(h, w) float32, 0 and more."""
    return np.maximum((np.maximum(level.gradient, 0) * level.features).sum(axis=0), 0)


def joined_layer_cam(levels: Sequence[Level]) -> np.ndarray:
    """LayerCAM of several levels as one map of the first level's size: (h, w) float32 in 0..1."""
    size = levels[0].features.shape[:0:-1]
    maps = []
    for number, level in enumerate(levels):
        plane = layer_cam(level)
        scaled = plane / max(float(plane.max()), 1e-12)
        if number < len(levels) - 1:
            scaled = np.tanh(JOINED_GAIN * scaled)
        maps.append(cv2.resize(scaled.astype(np.float32), size, interpolation=cv2.INTER_LINEAR))
    return np.maximum.reduce(maps)
