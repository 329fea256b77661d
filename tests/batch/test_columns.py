"""The table of photos has every scalar of findings.json."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from funduscope.batch import columns
from funduscope.batch.results import StoredResult
from funduscope.report.write import findings_schema
from funduscope.vocabulary import LESIONS, PhotoTask

GLAUCOMA = PhotoTask("glaucoma", "Glaucoma", ("no", "yes"), "accuracy", weight=1.0)
SIZES = {
    "probabilities": 5,
    "dme.probabilities": 3,
    "glaucoma.probabilities": 2,
    "grade_set": 2,
    "grade_range": 2,
    "dme_range": 2,
}
SIZES |= {"photo.grade": 5, "lesions.grade": 5, "photo.dme": 3, "lesions.dme": 3}
LEFT_OUT = ("schema", "image", "model", "not_a_medical_device", "rules.dme_range[0]")
"""The same in every photo, in run.json, or in another number; the file's name stands in `photo`."""

NAMES = ("grade_name", "class_name", "values", "says")
"""Of numbers and codes."""


def marked(node: dict[str, Any], path: str = "") -> Any:
    """An answer of this schema that has at each scalar where that stands, as a text."""
    node = findings_schema()["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    for way in ("anyOf", "oneOf"):
        if way in node:
            return marked(next(one for one in node[way] if one.get("type") != "null"), path)
    if "properties" in node:
        return {name: marked(one, f"{path}.{name}") for name, one in node["properties"].items()}
    if "items" in node:
        last = path.removeprefix(".").split(".")
        size = next((SIZES[key] for key in (".".join(last[-2:]), last[-1]) if key in SIZES), 1)
        return [marked(node["items"], f"{path}[{at}]") for at in range(size)]
    if isinstance(node.get("additionalProperties"), dict):
        kinds = {".tasks": ("glaucoma",), ".lesions": LESIONS}.get(path, ("grade", "dme"))
        return {name: marked(node["additionalProperties"], f"{path}.{name}") for name in kinds}
    return path


def scalars(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from scalars(one)


def test_every_scalar_of_findings_json_has_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "FURTHER_TASKS", (GLAUCOMA,))
    found = marked(findings_schema())
    result = StoredResult(found["photo"]["name"], "read", found=found, place="a.jpg")
    card: Any = SimpleNamespace(structures=LESIONS, witnesses=True)
    in_table = {str(column.value(result)) for column in columns.finding_columns(card, ())}
    words = {word for cell in in_table for word in cell.split()}
    wanted = [one for one in scalars(found) if not one.startswith(tuple(f".{name}" for name in LEFT_OUT))]
    wanted = [one for one in wanted if one.rpartition(".")[2] not in NAMES and ".objects" not in one]
    assert len(wanted) > 100
    assert [one for one in wanted if one not in words] == []
