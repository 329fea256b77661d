"""A multilayer perceptron over measures of a photo: numbers to one probability, without any framework.

Several networks of one hidden layer are one network side by side. `research/` fits them and writes them as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class MLP:
    """center, scale (F,): of the features. layers: weights (in, out) and biases (out,); tanh between, logistic last."""

    center: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def probability(self, values: np.ndarray) -> float:
        """Features (F,) to a probability, 0 to 1."""
        hidden = (values - self.center) / self.scale
        for weights, biases in self.layers[:-1]:
            hidden = np.tanh(hidden @ weights + biases)
        weights, biases = self.layers[-1]
        logit = float((hidden @ weights + biases)[0])
        return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> MLP:
        """The network in what `to_json` wrote. Raises `KeyError` or `ValueError` if the tree has none."""
        layers = tuple((np.array(weights, float), np.array(biases, float)) for weights, biases in tree["layers"])
        return cls(np.array(tree["center"], float), np.array(tree["scale"], float), layers)


def to_json(fitted: Any) -> str:
    """A fitted test as one line of JSON, arrays with five decimals: its `network`, an `MLP`, and its other values."""
    rest = {name: value for name, value in vars(fitted).items() if name != "network"}
    return json.dumps(vars(fitted.network) | rest, default=_plain, separators=(",", ":"))


def _plain(array: Any) -> Any:
    return np.round(np.asarray(array, float), 5).tolist()
