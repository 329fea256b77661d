"""Crops without a lesion, in which a network finds one, are shown again; no others are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from funduscope import checkpoint
from funduscope.checkpoint import BEST, LAST
from funduscope.data.case import ABSENT, Case, Labels
from funduscope.data.prepare import CHANNELS, cached
from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.training.batch import Item, Samples, collate
from funduscope.training.hard_negatives import HardNegatives, with_mined
from funduscope.training.loop import Loop
from funduscope.training.samples import draw_epoch
from funduscope.vocabulary import EITHER_EXUDATE


def _recipe(tiny: Recipe, share: float) -> Recipe:
    sampling = {"hard_negatives": share, "per_epoch": 8, "whole": {}, "close": {"idrid-A": 1.0, "healthy": 1.0}}
    return tiny.model_copy(
        update={
            "sampling": tiny.sampling.model_copy(update=sampling),
            "training": tiny.training.model_copy(update={"epochs": 2, "batch": 2, "accumulate": 1}),
        }
    )


def _healthy(cases: list[Case], recipe: Recipe) -> list[Case]:
    """The same photos as of a data set in which every lesion is known to be absent."""
    absent = Labels(masks=dict.fromkeys(recipe.tasks.structures, ABSENT))
    chosen = [case for case in cases if case.dataset == "idrid-A"]
    return [replace(case, key=f"healthy/{case.key}", dataset="healthy", labels=absent) for case in chosen]


def test_only_crops_without_a_lesion_are_mined_and_the_worst_come_first(
    tiny: Recipe, cases: list[Case], cache: Path
) -> None:
    recipe = _recipe(tiny, 0.25)
    masked = [case for case in cases if case.dataset == "idrid-A"]
    healthy = _healthy(cases, recipe)
    files = {case.key: cached(case, recipe.views.close_px, cache) for case in [*masked, *healthy]}
    items = [Item(case, "close", (1, 0, place)) for place, case in enumerate([masked[0], *healthy, *healthy])]
    batch = collate([Samples(files, recipe)[item] for item in items])
    logits = torch.full((len(items), len(recipe.tasks.structures), 16, 16), -9.0)
    logits[0] = 9.0  # lesions are there
    logits[1, recipe.tasks.structures.index("HE")] = 1.0
    logits[2, recipe.tasks.structures.index("HE")] = 2.0
    logits[3, recipe.tasks.structures.index("HE")] = 3.0
    batch.coverage[3, CHANNELS.index(EITHER_EXUDATE)] = 1.0  # an exudate of unknown kind is a lesion, too

    hard = HardNegatives(recipe, samples=8)
    hard.see([items], batch, logits)

    assert hard.mined() == [(items[2].case.key, (1, 0, 2)), (items[1].case.key, (1, 0, 1))]


def test_mined_crops_take_the_places_of_others(tiny: Recipe, cases: list[Case]) -> None:
    recipe = _recipe(tiny, 0.25)
    every = [*cases, *_healthy(cases, recipe)]
    items = draw_epoch(every, recipe, 1)
    mined = [(every[-1].key, (42, 0, 5)), (every[-1].key, (42, 0, 6))]

    shown = with_mined(items, mined, every, np.random.default_rng(0))

    assert len(shown) == len(items)
    assert [(item.case.key, item.seed) for item in shown if item.seed[1] == 0] in (mined, mined[::-1])


def test_the_next_epoch_shows_them_also_after_an_interruption(
    tiny: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    recipe = _recipe(tiny, 0.25)
    every = [*[case for case in cases if case.dataset == "idrid-A"], *_healthy(cases, recipe)]
    files = {case.key: cached(case, recipe.views.close_px, cache) for case in every}

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    def train(folder: Path, report: Callable[[object], None] = lambda _: None) -> Loop:
        torch.manual_seed(0)
        folder.mkdir(exist_ok=True)
        loop = Loop(recipe, build(recipe), every, files, folder, None)
        loop.run(report)
        return loop

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", stop)
    resumed = train(tmp_path / "parts")

    shown = [item.seed for part in resumed.batches.parts for item in part]
    assert sum(seed[1] == 0 for seed in shown) == 2  # a quarter of 8, drawn by the first epoch
    assert shown == [item.seed for part in whole.batches.parts for item in part]
    lines = [(tmp_path / name / "journal.jsonl").read_text().splitlines()[-1] for name in ("whole", "parts")]
    assert json.loads(lines[0])["samples_digest"] == json.loads(lines[1])["samples_digest"]
    last, best = (checkpoint.load(tmp_path / "whole" / name, ()).progress for name in (LAST, BEST))
    assert len(last["mined"]) == 2
    assert best["mined"] == [], "weights that are given to others name no photo"
