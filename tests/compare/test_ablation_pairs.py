"""Runs that differ in one thing alone are found, others are not, and the effect of the thing is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from funduscope.compare.ablation_pairs import ROUTING, SHARING, TEACHING, AblationPair, find_ablation_pairs
from funduscope.compare.page_parts import Table
from funduscope.compare.run_folder import Run, gather
from funduscope.compare.sections import Comparison, runs_section
from funduscope.compare.significance import ablation_section, verdict

GRADES_ALONE = ("tasks.structures=[]", "tasks.landmarks=[]")


def runs_of(fabricate, folder: Path, told: dict[str, tuple]) -> list[Run]:
    """Runs by name, each of (recipe, skill, seed, what else run.json says)."""
    for name, (recipe, skill, seed, about) in told.items():
        fabricate(folder / name, recipe, skill, seed, **about)
    return gather([folder / name for name in told])


def only(found: list[AblationPair]) -> AblationPair:
    assert len(found) == 1
    return found[0]


def effects_of(pair: AblationPair) -> dict[tuple[str, str], str]:
    return {(part, one.measure.title): verdict(one) for part, found in pair.found.items() for one in found}


def test_fewer_tasks_and_nothing_else_are_a_pair_in_sharing(fabricate, recipe_of, tmp_path: Path) -> None:
    told = {"all": (recipe_of(), 0.1, 1, {}), "grades": (recipe_of("plain", *GRADES_ALONE), 0.98, 2, {})}
    pairs = only(find_ablation_pairs(runs_of(fabricate, tmp_path, told)))
    assert (pairs.about, pairs.more.name, pairs.less.name) == (SHARING, "all", "grades")
    effects = effects_of(pairs)
    assert effects["validation", "DR kappa, idrid-B"] == effects["test", "DR kappa, idrid-B"] == "harms"
    assert "helps" not in effects.values()


def test_runs_that_are_alike_show_no_difference(fabricate, recipe_of, tmp_path: Path) -> None:
    told = {"all": (recipe_of(), 0.7, 1, {}), "grades": (recipe_of("plain", *GRADES_ALONE), 0.7, 1, {})}
    pairs = only(find_ablation_pairs(runs_of(fabricate, tmp_path, told)))
    assert set(effects_of(pairs).values()) == {"no difference shown"}


def test_what_differs_besides_is_said(fabricate, recipe_of, tmp_path: Path) -> None:
    fewer = recipe_of("plain", *GRADES_ALONE, "sampling.close={}")
    told = {"all": (recipe_of(), 0.7, 1, {}), "grades": (fewer, 0.7, 2, {})}
    assert only(find_ablation_pairs(runs_of(fabricate, tmp_path, told))).also == ("sampling",)


def test_numbers_and_devices_that_differ_are_said(fabricate, recipe_of, tmp_path: Path) -> None:
    fewer = recipe_of("plain", *GRADES_ALONE)
    here = {"precision": "bfloat16", "environment": {"device": "cpu"}}
    there = {"precision": "float32", "environment": {"device": "cuda some card"}}
    pairs = only(
        find_ablation_pairs(
            runs_of(fabricate, tmp_path, {"all": (recipe_of(), 0.7, 1, here), "grades": (fewer, 0.7, 2, there)})
        )
    )
    assert pairs.also == ("precision (bfloat16 and float32)", "device (cpu and cuda)")
    alike = runs_of(fabricate, tmp_path / "alike", {"a": (recipe_of(), 0.7, 1, here), "b": (fewer, 0.7, 2, here)})
    assert only(find_ablation_pairs(alike)).also == ()


@pytest.mark.parametrize("change", ["encoder.name=resnet18", "training.learning_rate=1e-3", "augment.mirror=0"])
def test_runs_that_differ_in_more_are_no_pair(fabricate, recipe_of, tmp_path: Path, change: str) -> None:
    told = {"all": (recipe_of(), 0.7, 1, {}), "grades": (recipe_of("plain", *GRADES_ALONE, change), 0.7, 2, {})}
    assert find_ablation_pairs(runs_of(fabricate, tmp_path, told)) == []


def test_experts_and_teachers_make_pairs_too(fabricate, recipe_of, tmp_path: Path) -> None:
    told = {
        "plain": (recipe_of(), 0.7, 1, {}),
        "routed": (recipe_of("plain", "experts.kind=mixture"), 0.7, 2, {}),
        "taught": (recipe_of(), 0.7, 3, {"teachers": ["routed"]}),
    }
    found = find_ablation_pairs(runs_of(fabricate, tmp_path, told))
    assert [(one.about, one.more.name, one.less.name) for one in found] == [
        (ROUTING, "routed", "plain"),
        (TEACHING, "taught", "plain"),
    ]


OTHER_DATA = {"data_fingerprint": "other"}
OTHER_START = {"init": {"name": "earlier", "sha256": "ab"}}
TAUGHT = {"teachers": ["someone"]}


@pytest.mark.parametrize(
    ("more", "about", "beside"),
    [
        ((), {**TAUGHT, **OTHER_DATA}, {}),
        ((), {**TAUGHT, **OTHER_START}, {}),
        ((), {"teachers": ["someone"]}, {"teachers": ["another"]}),
        (("experts.kind=mixture",), OTHER_DATA, {}),
        (("experts.kind=mixture",), OTHER_START, {}),
        (("experts.kind=mixture",), {"teachers": ["someone"]}, {"teachers": ["another"]}),
    ],
)
def test_runs_with_other_photos_teachers_or_first_weights_are_no_pair(
    fabricate, recipe_of, tmp_path: Path, more: tuple[str, ...], about: dict, beside: dict
) -> None:
    told = {"more": (recipe_of("plain", *more), 0.7, 1, about), "less": (recipe_of(), 0.7, 2, beside)}
    assert find_ablation_pairs(runs_of(fabricate, tmp_path, told)) == []


def test_pairs_may_have_begun_with_the_same_weights_and_the_page_names_them(
    fabricate, recipe_of, tmp_path: Path
) -> None:
    fewer = recipe_of("plain", *GRADES_ALONE)
    told = {"all": (recipe_of(), 0.7, 1, OTHER_START), "grades": (fewer, 0.7, 2, OTHER_START | OTHER_DATA)}
    runs = runs_of(fabricate, tmp_path, told)
    assert only(find_ablation_pairs(runs)).about == SHARING, "other tasks, other photos"
    table = runs_section(Comparison.of(runs)).blocks[0]
    assert isinstance(table, Table)
    assert [line.cells[1].small for line in table.lines] == ["earlier", "earlier"]


def test_without_pairs_the_page_says_so(fabricate, recipe_of, tmp_path: Path) -> None:
    runs = {"one": (recipe_of(), 0.7, 1, {}), "two": (recipe_of("unet34"), 0.7, 2, {})}
    pairs = find_ablation_pairs(runs_of(fabricate, tmp_path, runs))
    assert ablation_section(pairs).paragraphs == ["No two of these runs differ in sharing, routing or teaching alone."]
