"""What the tests of training share: a recipe small enough for seconds, and drawn eyes that lie on disk like IDRiD."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from funduscope.data.case import Case
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.data.sources import read_data
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import write_idrid

CHANGES = (
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "decoder.skip_channels=[8, 8, 8, 8, 16]",
    "decoder.channels=[16, 16, 8, 8]",
    "views.whole_px=64",
    "views.close_px=128",
    "sampling.whole={idrid-B = 1, idrid-A = 0.5}",
    "sampling.close={idrid-B = 0.5, idrid-A = 1.5}",
    "training.epochs=3",
    "training.batch=2",
    "training.workers=2",
    "training.precision=float32",
    "training.average_decay=0.9",
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny maps gain nothing from threads, and the bytes of a training depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def changes() -> list[str]:
    """As they would stand behind `--set`."""
    return list(CHANGES)


@pytest.fixture(scope="session")
def tiny(changes: list[str]) -> Recipe:
    """The package's first recipe, made tiny."""
    return Recipe.load("plain", changes)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten graded eyes and five with masks, as IDRiD lies on disk."""
    folder = tmp_path_factory.mktemp("drawn") / "idrid"
    write_idrid(folder, graded=10, masked=5, width_px=400)
    return folder


@pytest.fixture(scope="session")
def cases(data: Path) -> list[Case]:
    """The cases of `data`."""
    return read_data([data])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of prepared photos for the whole session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The session's cache, as a user would name it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    return cache


STEADY = ["training.batch_norm=frozen", "training.dropout=0", "training.workers=0", "training.batch=4"]
"""So that a photo's output does not depend on which others are in its process."""


@pytest.fixture
def steady(changes: list[str]) -> Recipe:
    return Recipe.load("plain", [*changes, *STEADY, "training.epochs=2"])
