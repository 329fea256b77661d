"""The heads: what turns features into logits, a small module a task."""

from __future__ import annotations

from torch import Tensor, nn


class GradeHead(nn.Module):
    """Mean over the map, dropout, one linear layer: (B, C, h, w) to (B, classes).

    Linear on pooled features on purpose: weights times features is then its exact class activation map.
    """

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, classes)

    def forward(self, deepest: Tensor) -> Tensor:
        return self.linear(self.dropout(deepest.mean(dim=(2, 3))))


class DenseHead(nn.Module):
    """One 3x3 convolution: (B, C, h, w) to (B, maps, h, w).

    start: the bias that the maps begin with; -4 says that a pixel is rarely a lesion before anything is learned.
    """

    def __init__(self, channels: int, maps: int, start: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, maps, 3, padding=1)
        nn.init.constant_(self.conv.bias, start)  # pyright: ignore[reportArgumentType]

    def forward(self, feature: Tensor) -> Tensor:
        return self.conv(feature)
