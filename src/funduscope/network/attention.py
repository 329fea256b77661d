"""Attention gates: what of a skip is let through, decided by the deeper feature that meets it.

Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018: additive attention,
sigmoid(psi(relu(Wx skip + Wg gating))), a factor a pixel. Differs: the gating feature is brought up to the skip's size
instead of the skip down to the gating feature's, so that a lesion of two pixels is kept or dropped by itself; and the
gates start nearly open (0.88) rather than wholly, where the sigmoid has no slope to learn by.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START = 2.0
"""The logit that every pixel's gate begins near."""


class AttentionGate(nn.Module):
    """skip, gating: channels of the two maps. inner: channels in which they are compared."""

    def __init__(self, skip: int, gating: int, inner: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, inner, 1, bias=False)
        self.gating = nn.Conv2d(gating, inner, 1)
        self.psi = nn.Conv2d(inner, 1, 1)
        nn.init.constant_(self.psi.bias, START)  # pyright: ignore[reportArgumentType]

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """The skip (B, C, h, w), each pixel times its factor; the gating feature (B, G, h', w') may be smaller."""
        return skip * self.factors(skip, gating)

    def factors(self, skip: Tensor, gating: Tensor) -> Tensor:
        """(B, 1, h, w) in 0 to 1: how much of each pixel of the skip is let through."""
        # Compared first and resized afterwards: a 1x1 convolution of the small map costs a quarter.
        deeper = F.interpolate(self.gating(gating), size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.psi(F.relu(self.skip(skip) + deeper)))
