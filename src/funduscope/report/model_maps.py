"""The maps that only a checkpoint gives, for whoever has a model of any kind. Torch is loaded for checkpoints alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime

if TYPE_CHECKING:
    from funduscope.report.checkpoint_maps import CheckpointMaps


def checkpoint_maps(model: object) -> CheckpointMaps | None:
    """What draws maps with the network itself, if the model is one checkpoint; None for any other."""
    if not isinstance(model, Predictor) or not isinstance(model.runtime, TorchRuntime):
        return None
    from funduscope.network.joined import JoinedNetwork
    from funduscope.network.network import Network
    from funduscope.report.checkpoint_maps import CheckpointMaps

    network = model.runtime.network
    return CheckpointMaps(network, model.card) if isinstance(network, Network | JoinedNetwork) else None
