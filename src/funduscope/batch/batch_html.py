"""batch.html: whose photos to take again, what a batch found and what it refused, how its photos drift, and which
answers are least certain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from funduscope.batch.columns import files_place
from funduscope.batch.reader import MEASURES
from funduscope.batch.store import Store
from funduscope.inference.ood import FAR_PERCENTILE
from funduscope.inference.worklist import STATES, State
from funduscope.report.html_frame import render
from funduscope.vocabulary import DME_RISKS, GRADES

SHOWN_PATIENTS: Final = 20
"""Patients in the table of who must be seen first. Those with an eye that cannot be read are all listed."""

MAX_UNCERTAIN: Final = 100
"""Photos that are named on the page."""

MAX_GROUPS: Final = 400
"""Rows of the table of drift, of the latest days; findings.parquet has the rest."""

MAX_TWICE: Final = 50
"""Rows of the table of photos that stand in several places."""

_FOUND: Final = "json_extract(found, '$.{}')"


MEANINGS: Final = (
    ("Distance", "from the training photos; 1 is that of a usual one"),
    ("Unlike", "share of photos that are further from them than 99 of 100 new photos of the same clinics"),
    ("Brightness, contrast, chroma", "levels from 0 to 255: the middle of the field, its range in green, its color"),
    ("Sharpness", "finest over next finer detail; a blurred photo has less"),
    ("Seen", "share of the field's circle that is inside the photo"),
)
"""Headings of the columns of drift, with what they mean."""


@dataclass
class PagePatients:
    """What the page shows of the patients' table."""

    first: list[dict[str, Any]] = field(default_factory=list)
    """The first rows."""

    unread: list[dict[str, Any]] = field(default_factory=list)
    """A row for each eye without a photo that can be graded, with its patient."""

    counts: Counter[State] = field(default_factory=Counter)
    """How many patients are in each state."""

    def noting(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Passes the rows on, and keeps what the page shows."""
        for row in rows:
            if len(self.first) < SHOWN_PATIENTS:
                self.first.append(row)
            for eye in row["unread"]:
                self.unread.append({name: row[name] for name in ("patient", "visit", "urgency")} | eye)
            self.counts[row["urgency"]] += 1
            yield row


def page(
    store: Store,
    counts: Mapping[str, int],
    model: Mapping[str, str],
    patients: PagePatients,
    files: str = "",
) -> str:
    """The page as text of one self-contained HTML file, the same for the same results.

    counts: photos given, read, refused and failed. model: its name, version and sha256. files: the folder of photos'
    reports, next to the page, to which photos are linked.
    """
    drift = list(_drift(store))
    unread = [eye | {"link": _link(files, *eye["report"])} for eye in patients.unread]
    first = [row | {"link": _link(files, *row["decided"]) if row["decided"] else ""} for row in patients.first]
    values = {
        "counts": counts,
        "model": model,
        "patients": first,
        "patient_counts": [(state, patients.counts[state]) for state in STATES if patients.counts[state]],
        "to_retake": [eye for eye in unread if eye["state"] == "retake"],
        "to_examine": [eye for eye in unread if eye["state"] == "examine"],
        "grades": _shares(store, "predicted_grade", GRADES),
        "risks": _shares(store, "dme.risk", DME_RISKS),
        "urgencies": _counted(store, _FOUND.format("advice.urgency"), "state = 'read'"),
        "cameras": _counted(store, "camera"),
        "refusals": _counted(store, _FOUND.format("gradable.reasons[0].code"), "state = 'refused'"),
        "failures": _counted(store, "code", "state = 'failed'"),
        "measures": MEASURES,
        "meanings": MEANINGS,
        "drift": sorted(drift[:MAX_GROUPS], key=lambda group: (group["camera"] or "", group["date"] or "")),
        "most_drift": MAX_GROUPS if len(drift) > MAX_GROUPS else None,
        "twice": list(_twice(store)),
        "unsure": list(_least_certain(store, files)),
    }
    return render("batch/page/page.html.j2", values, style="batch/page/page.css")


def _link(files: str, place: str | None, name: str, code: str | None) -> str:
    """The address of a photo's report, or nothing if there is none. code: why it could not be written."""
    folder = files_place(files, place, name, code)
    return "" if folder is None else quote(f"{folder}/report.html")


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
    """By camera and day: photos, shares refused and unlike the training photos, means of measures and distance.

    The latest days first; one more than are shown, where there are more.
    """
    means = ", ".join(f"avg(json_extract(measures, '$.{name}'))" for name in MEASURES)
    distance, percentile = (_FOUND.format(f"training_distance.{name}") for name in ("value", "percentile"))
    query = (
        "select camera, substr(date, 1, 10) as day, count(*), avg(state = 'refused'), "
        f"avg({percentile} > {FAR_PERCENTILE}), avg({distance}), {means} "
        "from photos join results using (place) where state != 'failed' "
        f"group by camera, day order by day desc, camera limit {MAX_GROUPS + 1}"
    )
    for camera, date, photos, refused, unlike, distance, *values in store.select(query):
        group = {"camera": camera, "date": date, "photos": photos, "refused": refused, "unlike": unlike}
        yield group | {"means": [distance, *values]}


def _twice(store: Store) -> Iterator[dict[str, Any]]:
    """Files with the same bytes in several places: how many, of how many patients, and two of the places."""
    patients = "count(distinct iif(patient = '', place, patient))"  # as their tables count them
    query = (
        f"select count(distinct place), {patients}, min(place), max(place) "
        f"from photos join results using (place) where state != 'failed' group by {_FOUND.format('photo.sha256')} "
        f"having count(distinct place) > 1 order by {patients} > 1 desc, 1 desc, 3 limit {MAX_TWICE}"
    )
    for places, persons, first, last in store.select(query):
        yield {"places": places, "patients": persons, "first": first, "last": last}


def _least_certain(store: Store, files: str) -> Iterator[dict[str, Any]]:
    grade, risk = (_FOUND.format(f"headline.{part}.says") for part in ("grade", "dme"))
    query = (
        f"select place, name, code, uncertainty, {grade}, {risk} from photos join results using (place) "
        "where state = 'read' and uncertainty is not null "
        f"order by uncertainty desc, position, frame limit {MAX_UNCERTAIN}"
    )
    for place, name, code, uncertainty, grade, risk in store.select(query):
        says = "; ".join(filter(None, (grade, risk)))
        yield {"place": place, "link": _link(files, place, name, code), "uncertainty": uncertainty, "says": says}
