"""Which expert took which share of the photos: what an epoch's line says of a network's routers."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from funduscope.network.routing import Routed


class Usage:
    """Sums over the photos of an epoch, by router."""

    def __init__(self) -> None:
        self.photos: dict[str, int] = defaultdict(int)
        self.shares: dict[str, Tensor] = {}
        self.taken: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, routing: dict[str, Routed]) -> None:
        """Takes in a batch."""
        for name, routed in routing.items():
            gates = routed.gates.detach().float()
            self.photos[name] += len(gates)
            for sums, value in ((self.shares, gates.sum(0)), (self.taken, (gates > 0).float().sum(0))):
                sums[name] = value + sums[name] if name in sums else value

    def numbers(self) -> dict[str, float]:
        """By router: `experts NAME i`, the share of photos for which expert i was computed; `experts NAME entropy`, of
        the mean gates, 1 where all experts carry the same; `experts NAME chosen`, how many a photo.
        """
        said: dict[str, float] = {}
        for name, count in self.photos.items():
            mean, taken = self.shares[name] / count, self.taken[name] / count
            said |= {f"experts {name} {index}": float(share) for index, share in enumerate(taken)}
            entropy = -(mean * mean.clamp(min=1e-12).log()).sum() / torch.log(torch.tensor(float(len(mean))))
            said |= {f"experts {name} entropy": float(entropy), f"experts {name} chosen": float(taken.sum())}
        return said
