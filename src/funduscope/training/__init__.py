"""Training: from a recipe and labeled cases to a run folder. `train.train` is the entry.

For a custom loop: `PhotoDataset` gives samples, `collate` batches (`Batch`), `build` the network of a recipe, and
the losses take logits, targets and a mask of what is known. All are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funduscope.network.network import build
    from funduscope.training.batch import Batch, collate
    from funduscope.training.losses import bag_losses, class_loss, dense_loss, landmark_loss, task_losses
    from funduscope.training.photo_dataset import PhotoDataset

__all__ = [
    "Batch", "PhotoDataset", "TrainingError", "bag_losses", "build", "class_loss", "collate", "dense_loss",
    "landmark_loss", "task_losses",
]  # fmt: skip

_MODULES = {
    "Batch": "funduscope.training.batch",
    "PhotoDataset": "funduscope.training.photo_dataset",
    "bag_losses": "funduscope.training.losses",
    "build": "funduscope.network.network",
    "class_loss": "funduscope.training.losses",
    "collate": "funduscope.training.batch",
    "dense_loss": "funduscope.training.losses",
    "landmark_loss": "funduscope.training.losses",
    "task_losses": "funduscope.training.losses",
}


class TrainingError(RuntimeError):
    """A training that cannot continue; the message says why and what to do."""


if not TYPE_CHECKING:  # which knows the names above, and so finds a misspelled one

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'funduscope.training' has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
