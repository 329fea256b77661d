"""The routing tables are made from the journal of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from research.bundles import unpack

from funduscope.compare.page_parts import Table
from funduscope.compare.routers import routers_section
from funduscope.compare.run_folder import Run, bundle, gather
from funduscope.recipe import Recipe

TABLE = Path(__file__).parents[2] / "results" / "study-fold2.jsonl.gz"


def routed(fabricate, recipe_of, folder: Path, *changes: str, lines: list[dict], **work: float) -> Run:
    """A run with a shared mixture, such a diary, and such work (G multiply-adds)."""
    fabricate(folder, recipe_of("plain", "experts.kind=mixture", *changes))
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    path = folder / "scores" / "cost.json"
    tree = json.loads(path.read_text("utf-8"))
    tree["work"] |= {"photo": work, "stated": []}
    path.write_text(json.dumps(tree), "utf-8")
    return gather([folder])[0]


def line(epoch: int, shares: list[float], *, best: bool) -> dict:
    told = {f"experts all {place}": share for place, share in enumerate(shares)}
    return {"epoch": epoch, "seconds": 1.0, "best": best, **told, "experts all entropy": 0.9, "experts all chosen": 1.5}


def test_the_experts_of_the_kept_epoch_stand_in_a_table(fabricate, recipe_of, tmp_path: Path) -> None:
    lines = [line(1, [1.0, 0.5], best=True), line(2, [0.0, 1.0], best=False)]
    run = routed(
        fabricate, recipe_of, tmp_path / "a", lines=lines, total=9, dense=10, experts=1, dense_experts=2, kept=0.5
    )
    plain = gather([fabricate(tmp_path / "plain")])[0]
    section = routers_section([plain, run])
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table)
    (row,) = table.lines
    assert row.name == "a: all"
    assert [cell.text for cell in row.cells] == ["100 %", "50 %", "0.90", "1.50"]
    assert routers_section([plain]) is None


def test_weights_that_a_router_moved_stand_in_a_table(fabricate, recipe_of, tmp_path: Path) -> None:
    lines = [{"epoch": n, "seconds": 1.0, "best": True, "weight grade": value} for n, value in ((1, 1.0), (2, 0.4))]
    work = {"total": 9, "dense": 9, "experts": 0, "dense_experts": 0, "kept": 1}
    moved = routed(fabricate, recipe_of, tmp_path / "a", "balance.kind=routed", lines=lines, **work)
    fixed = routed(fabricate, recipe_of, tmp_path / "b", lines=lines, **work)
    section = routers_section([moved, fixed])
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [(one.name, [cell.text for cell in one.cells]) for one in table.lines] == [("a", ["routed", "1.00 to 0.40"])]


def test_each_stage_has_rows_of_its_own(fabricate, tmp_path: Path) -> None:
    gates = {"lesions": "experts.kind=mixture", "whole": "experts.kind=mixture"}
    recipe = Recipe.load("flagship", [f"stages.{stage}.{change}" for stage, change in gates.items()])
    fabricate(tmp_path / "a", recipe)
    lines = [line(1, [1.0, 0.5], best=True) | {"stage": "lesions", "weight dense": 0.4}]
    lines += [line(epoch, [0.2, 0.9], best=epoch == 1) | {"stage": "whole"} for epoch in (1, 2)]
    (tmp_path / "a" / "journal.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    section = routers_section(gather([tmp_path / "a"]))
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [(row.name, row.cells[0].text) for row in table.lines] == [
        ("a, lesions: all", "100 %"),
        ("a, whole: all", "20 %"),
    ]


def test_a_bundle_keeps_what_the_routers_did(fabricate, recipe_of, tmp_path: Path) -> None:
    lines = [line(1, [1.0, 0.5], best=True)]
    routed(fabricate, recipe_of, tmp_path / "a", lines=lines, total=9, dense=9, experts=0, dense_experts=0, kept=1)
    bundle(tmp_path / "a", tmp_path / "kept" / "a")
    assert routers_section(gather([tmp_path / "kept" / "a"])) is not None


def test_trained_top_p_gates_make_their_experts_cheaper_in_proportion(tmp_path: Path) -> None:
    """A row of the study: router by router within 5 % of the number that its gates choose, at both sizes."""
    unpack(TABLE, tmp_path)
    work = gather([tmp_path / "top_p-seed1-fold2"])[0].cost
    assert work is not None
    for one in (work["work"]["photo"], work["work"]["stated"][0]["scaled"]):
        assert 0 < one["kept"] < 1
        assert one["experts"] == pytest.approx(one["in_proportion"], rel=0.05)
        assert one["dense"] - one["total"] == pytest.approx(one["dense_experts"] - one["experts"])
