"""What a network's own attention lets through: a map for each skip that passes a gate.

Oktay et al., "Attention U-Net", MIDL 2018. These belong to the decoder: they say where lesions were looked for, nothing
of the grade. Routers of experts decide by photo, not by place; their shares are `Findings.gates`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from funduscope.network.attention import AttentionGate
from funduscope.network.network import Network


def attention_maps(network: Network, image: np.ndarray) -> list[np.ndarray]:
    """Each gate's factors, (h, w) float32 in 0..1, deep to shallow; empty for a network without gates.

    image: (S, S, 3) uint8, S a multiple of 32; the maps lie over it whatever their size.
    """
    gates = [module for module in network.modules() if isinstance(module, AttentionGate)]
    held: list[np.ndarray] = []

    def keep(gate: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(gate, AttentionGate)
        held.append(gate.factors(*given)[0, 0].float().numpy())

    hooks = [gate.register_forward_pre_hook(keep) for gate in gates]
    try:
        with torch.inference_mode():
            network(torch.from_numpy(np.ascontiguousarray(image[None])))
    finally:
        for hook in hooks:
            hook.remove()
    return held
