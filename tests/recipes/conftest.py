"""What the tests of all recipes share: drawn eyes that lie on disk like IDRiD, a cache, a recipe made tiny."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import write_idrid


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny maps gain nothing from threads, and the bytes of a training depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten graded eyes and five with masks."""
    folder = tmp_path_factory.mktemp("drawn") / "idrid"
    write_idrid(folder, graded=10, masked=5, width_px=400)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of prepared photos for the whole session."""
    return tmp_path_factory.mktemp("cache")


def _tiny(name: str) -> list[str]:
    recipe = Recipe.load(name)
    encoder = "test_convnext" if "convnext" in recipe.encoder.name else "test_resnet"
    levels = 4 if encoder == "test_convnext" else 5
    changes = [
        f"encoder.name={encoder}",
        "encoder.weights=none",
        "views.whole_px=64",
        f"views.close_px={128 if recipe.views.close else 64}",
        "sampling.whole={idrid-A = 1.0, idrid-B = 1.0}",
        f"sampling.close={'{idrid-A = 1.0}' if recipe.views.close else '{}'}",
        "sampling.per_epoch=4",
        "training.epochs=1",
        "training.batch=2",
        "training.workers=0",
        "training.precision=float32",
        "experts.width=8",
    ]
    for stage in recipe.stages:
        own = recipe.stage(stage).encoder
        skips, blocks = ([8] * 4, [8] * 3) if own.levels else ([8] * 5, [8] * 4)
        if own.name != recipe.encoder.name:
            changes.append(f"stages.{stage}.encoder.name={encoder}")
        changes += [f"stages.{stage}.decoder={{skip_channels={skips}, channels={blocks}}}"]
        changes += [f"stages.{stage}.training={{epochs=1}}", f"stages.{stage}.sampling={{per_epoch=4}}"]
    if recipe.stages:
        return changes
    if recipe.heads.hidden:
        changes.append("heads.hidden=[8]")
    if recipe.decoder.kind == "deeplab":
        return [*changes, "decoder.channels=[8]"]
    skips = [8] * levels if recipe.decoder.skip_channels else []
    return [*changes, f"decoder.skip_channels={skips}", f"decoder.channels={[8] * (levels - 1)}"]


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], list[str]]:
    """By a recipe's name or path: what makes it small enough for seconds without changing its design."""
    return _tiny
