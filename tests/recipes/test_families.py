"""One recipe of each family of networks, stopped in the middle and resumed, ends in the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.data.sources import read_data
from funduscope.network.network import Network
from funduscope.recipe import Recipe
from funduscope.training.loop import Loop, Validation
from funduscope.training.train_network import train_network

FAMILIES = {
    "attention_moe": [],  # one router, attention gates, Adam, plateau
    "soft_sharing": [],  # a gate per task, losses weighed by a network, batches by turns
    "moe_deeplab": [],  # whole heads as experts, sigmoid gates
    "moe_aspp": [],
    "unet34": [],
    "unetplusplus_lesions": ["balance.kind=routed"],
    "convnext_grader": ["experts.kind=mixture"],
}
FAST = ("attention_moe",)
STEPS = 3


class Killed(BaseException):
    """Nothing in the package catches it, as nothing catches a kill."""


def make_validation(recipe: Recipe, cases: list[Any]) -> Validation:
    """A score that training moves up and down."""

    def validate(network: Network) -> dict[str, float]:
        return {"selection": float(sum(p.detach().sum() for p in network.heads.parameters()) * 1e3 % 1)}

    return validate


def _tensors(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    name: str,
    tiny: Callable[[str], list[str]],
    data: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    changes = [
        *tiny(name),
        "training.epochs=3",
        "training.patience=3",
        f"sampling.per_epoch={2 * STEPS}",
        "training.plateau_patience=1",
    ]
    recipe = Recipe.load(name, [*changes, *FAMILIES[name]])
    cases = [case for case in read_data([data]) if case.dataset == "idrid-A" or case.labels.grade is not None]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_network(recipe, cases, whole, fold=0, make_validation=make_validation)

    step = Loop._step

    def dies(self: Loop, *given: Any, update: bool) -> Any:
        if self.state.step == STEPS + 1:
            raise Killed
        return step(self, *given, update=update)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", dies)
        with pytest.raises(Killed):
            train_network(recipe, cases, broken, fold=0, make_validation=make_validation)
    assert len((broken / "journal.jsonl").read_text().splitlines()) == 1
    train_network(recipe, cases, broken, fold=0, make_validation=make_validation)
    for file in ("best.safetensors", "last.safetensors"):
        assert _tensors(broken / file) == _tensors(whole / file)
