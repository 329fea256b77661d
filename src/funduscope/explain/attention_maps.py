"""The factors of a network's attention gates: one map for each gated skip connection.

Oktay et al., "Attention U-Net", MIDL 2018. The gates belong to the decoder: they show where lesions were segmented from
and say nothing about the grade. Routers of experts decide by photo, not by place; their shares are `Findings.gates`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from funduscope.network.attention import AttentionGate
from funduscope.network.network import Network


def attention_maps(network: Network, image: np.ndarray) -> list[np.ndarray]:
    """The factors of each gate, (h, w) float32 in 0..1, deep to shallow; empty for a network without gates.

    image: (S, S, 3) uint8, S a multiple of 32. Every map covers the whole image, whatever its size.
    """
    maps: list[np.ndarray] = []

    def keep(gate: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(gate, AttentionGate)
        maps.append(gate.factors(*given)[0, 0].float().cpu().numpy())

    with ExitStack() as hooks, torch.inference_mode():
        for module in network.modules():
            if isinstance(module, AttentionGate):
                hooks.enter_context(module.register_forward_pre_hook(keep))
        network(torch.from_numpy(np.ascontiguousarray(image[None])).to(next(network.parameters()).device))
    return maps
