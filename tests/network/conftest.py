"""What the tests of the network share: small recipes, one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from funduscope.recipe import Recipe


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny maps gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def wake() -> Callable[[torch.nn.Module], None]:
    """Opens the residual branches, which start at nothing in timm's ResNets: their last norm's weight is zero."""

    def open_all(network: torch.nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)

    return open_all


@pytest.fixture(scope="session")
def recipe_of() -> Callable[..., Recipe]:
    """A recipe by its encoder's name, with a narrow decoder and further changes."""

    def recipe(encoder: str, *changes: str) -> Recipe:
        small = [
            f"encoder.name={encoder}",
            "encoder.weights=none",
            "decoder.skip_channels=[8, 8, 8, 8, 16]",
            "decoder.channels=[16, 16, 8, 8]",
        ]
        return Recipe.from_toml('name = "small"\n', [*small, *changes])

    return recipe
