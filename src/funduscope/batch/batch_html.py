"""batch.html: what a batch found and what it refused, how its photos drift, and which answers are least certain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from funduscope.batch.reader import MEASURES
from funduscope.batch.store import Store
from funduscope.report.html_frame import render
from funduscope.vocabulary import DME_RISKS, GRADES

LEAST_CERTAIN: Final = 100
"""Photos that are named on the page."""

MOST_GROUPS: Final = 400
"""Rows of the table of drift; findings.parquet has the rest."""

_FOUND: Final = "json_extract(found, '$.{}')"


def page(
    store: Store, counts: Mapping[str, int], model: Mapping[str, str], patients: Sequence[Mapping[str, Any]]
) -> str:
    """The page as text of one self-contained HTML file, the same for the same results.

    counts: photos given, read, refused and failed. model: its name, version and sha256. patients: the first rows of the
    patients' table.
    """
    values = {
        "counts": counts,
        "model": model,
        "patients": patients,
        "grades": _shares(store, "predicted_grade", GRADES),
        "risks": _shares(store, "dme.risk", DME_RISKS),
        "urgencies": _counted(store, _FOUND.format("advice.urgency"), "state = 'read'"),
        "cameras": _counted(store, "camera"),
        "refusals": _counted(store, _FOUND.format("gradable.reasons[0].code"), "state = 'refused'"),
        "failures": _counted(store, "code", "state = 'failed'"),
        "measures": MEASURES,
        "drift": list(_drift(store)),
        "unsure": list(_least_certain(store)),
    }
    return render("batch/page/page.html.j2", values, style="batch/page/page.css")


def _shares(store: Store, path: str, names: Sequence[str]) -> list[tuple[str, int]]:
    """By the name of each class the photos that were read and have it."""
    found = dict(_counted(store, _FOUND.format(path), "state = 'read'"))
    return [(f"{at}: {name}", found.get(at, 0)) for at, name in enumerate(names)]


def _counted(store: Store, expression: str, where: str = "1") -> list[tuple[Any, int]]:
    """The values of an SQL expression and how many results have each, the most frequent first."""
    query = (
        f"select {expression} as value, count(*) from photos join results using (place) where {where} "
        "group by value order by 2 desc, value"
    )
    return [(value, count) for value, count in store.select(query) if value not in (None, "")]


def _drift(store: Store) -> Iterator[dict[str, Any]]:
    """By camera and day: photos, share refused, and means of image measures and of the distance from the training."""
    means = ", ".join(f"avg(json_extract(measures, '$.{name}'))" for name in MEASURES)
    distance = _FOUND.format("training_distance.value")
    query = (
        f"select camera, date, count(*), avg(state = 'refused'), avg({distance}), {means} "
        "from photos join results using (place) where state != 'failed' group by camera, date order by camera, date "
        f"limit {MOST_GROUPS}"
    )
    for camera, date, photos, refused, far, *values in store.select(query):
        group = {"camera": camera, "date": date, "photos": photos, "refused": refused}
        yield group | {"distance": far, "means": values}


def _least_certain(store: Store) -> Iterator[dict[str, Any]]:
    grade, risk = (_FOUND.format(f"headline.{part}.says") for part in ("grade", "dme"))
    query = (
        f"select place, name, uncertainty, {grade}, {risk} from photos join results using (place) "
        "where state = 'read' and uncertainty is not null "
        f"order by uncertainty desc, position, frame limit {LEAST_CERTAIN}"
    )
    for place, name, uncertainty, grade, risk in store.select(query):
        yield {"place": place, "name": name, "uncertainty": uncertainty, "says": "; ".join(filter(None, (grade, risk)))}
