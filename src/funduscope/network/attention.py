"""Attention gates: the deeper feature decides how much of each pixel of a skip passes.

Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018: additive attention,
sigmoid(psi(relu(Wx skip + Wg gating))), a factor per pixel. Differs: the gating feature is enlarged to the skip's size
instead of the skip reduced, so that a lesion of two pixels has factors of its own; and the gates start nearly open
(0.88), since the sigmoid of a wholly open gate has no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GATE_BIAS = 2.0
"""About the first logit of every pixel's gate."""


class AttentionGate(nn.Module):
    """skip, gating: channels of the two maps. inner: channels of the map in which they are added."""

    def __init__(self, skip: int, gating: int, inner: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, inner, 1, bias=False)
        self.gating = nn.Conv2d(gating, inner, 1)
        self.psi = nn.Conv2d(inner, 1, 1)
        nn.init.constant_(self.psi.bias, GATE_BIAS)  # pyright: ignore[reportArgumentType]

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """The skip (B, C, h, w), each pixel times its factor; the gating feature (B, G, h', w') may be smaller."""
        return skip * self.factors(skip, gating)

    def factors(self, skip: Tensor, gating: Tensor) -> Tensor:
        """(B, 1, h, w) in 0..1: the share of each pixel of the skip that passes."""
        # Convolved before resizing: a 1x1 convolution of the small map costs a quarter.
        deeper = F.interpolate(self.gating(gating), size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.psi(F.relu(self.skip(skip) + deeper)))
