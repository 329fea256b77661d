"""What the tests of explanations share: small networks that look as if they had learned, one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from funduscope.network.network import Network, build
from funduscope.recipe import Recipe


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny maps gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _built(*changes: str) -> Network:
    small = [
        "encoder.name=test_resnet",
        "encoder.weights=none",
        "decoder.skip_channels=[8, 8, 8, 8, 16]",
        "decoder.channels=[16, 16, 8, 8]",
    ]
    torch.manual_seed(0)
    network = build(Recipe.from_toml('name = "small"\n', [*small, *changes]))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="session")
def built() -> Callable[..., Network]:
    """A small network by changes of its recipe."""
    return _built


@pytest.fixture
def image() -> np.ndarray:
    """(128, 128, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
