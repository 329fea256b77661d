"""Findings: defaults from their kinds, their order, and their JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from funduscope.doctor.finding import found, ordered
from funduscope.doctor.kinds import KINDS, Kind


def test_a_finding_has_its_kinds_advice_and_severity_unless_one_is_given() -> None:
    plain = found("blurred", ["a.jpg"], "Soft.")
    assert (plain.severity, plain.advice) == (KINDS["blurred"].severity, KINDS["blurred"].advice)
    own = found("blurred", ["a.jpg"], "Soft.", severity="error")
    assert (own.severity, own.advice) == ("error", plain.advice)


def test_the_worst_comes_first_then_the_kinds_order_then_the_file() -> None:
    findings = [
        found("camera_families", ["a.jpg"], "Two."),
        found("blurred", ["b.jpg"], "Soft."),
        found("blurred", ["a.jpg"], "Soft."),
        found("truncated", ["z.jpg"], "Short."),
        found("same_photo", ["y.jpg", "z.jpg"], "Twice."),
    ]
    assert [(one.kind, one.files[0]) for one in ordered(findings)] == [
        ("truncated", "z.jpg"), ("same_photo", "y.jpg"), ("blurred", "a.jpg"), ("blurred", "b.jpg"),
        ("camera_families", "a.jpg"),
    ]  # fmt: skip


def test_a_finding_is_plain_json() -> None:
    one = found("same_eye", ["a.jpg", "b.jpg"], "One eye.", {"fold": [0, None], "score": 0.8})
    assert json.loads(json.dumps(one.to_dict())) == {
        "kind": "same_eye",
        "severity": "info",
        "files": ["a.jpg", "b.jpg"],
        "says": "One eye.",
        "evidence": {"fold": [0, None], "score": 0.8},
        "advice": KINDS["same_eye"].advice,
    }


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(KeyError):
        found("no such kind", [], "")


@pytest.mark.parametrize("wrong", [{"group": "Twins"}, {"severity": "fatal"}, {"advice": ""}])
def test_a_wrong_entry_in_the_table_of_kinds_is_an_error(wrong: dict[str, str]) -> None:
    entry: dict[str, Any] = {"group": "Masks", "severity": "info", "title": "A.", "why": "B.", "advice": "C."}
    with pytest.raises(ValueError, match=r"kinds\.toml"):
        Kind(**entry | wrong)
