"""batch.html: whose photos to take again, what a batch found and what it refused, how its photos drift, and which
answers are least certain."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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

_PAGE_COLUMNS: Final = (
    *("place", "patient", "camera", "date", "state", "sha256", "reasons", "grade", "dme", "urgency"),
    *("training_distance", "training_percentile", *MEASURES),
)

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


def read_page_columns(path: Path) -> pa.Table:
    """What the page needs of findings.parquet."""
    with path.open("rb") as file:  # PyArrow by itself takes no name that is not UTF-8
        return pq.read_table(file, columns=list(_PAGE_COLUMNS))


def page(
    store: Store,
    findings: pa.Table,
    counts: Mapping[str, int],
    model: Mapping[str, str],
    patients: PagePatients,
    files: str = "",
) -> str:
    """The page as text of one self-contained HTML file, the same for the same results.

    findings: of `read_page_columns`. counts: photos given, read, refused and failed. model: its name, version and
    sha256. files: the folder of photos' reports, next to the page, to which photos are linked.
    """
    read = findings.filter(pc.field("state") == "read")
    refused = findings.filter(pc.field("state") == "refused")
    drift = _drift(findings)
    unread = [eye | {"link": _link(files, *eye["report"])} for eye in patients.unread]
    first = [row | {"link": _link(files, *row["decided"]) if row["decided"] else ""} for row in patients.first]
    values = {
        "counts": counts,
        "model": model,
        "patients": first,
        "patient_counts": [(state, patients.counts[state]) for state in STATES if patients.counts[state]],
        "to_retake": [eye for eye in unread if eye["state"] == "retake"],
        "to_examine": [eye for eye in unread if eye["state"] == "examine"],
        "grades": _classes(read["grade"], GRADES),
        "risks": _classes(read["dme"], DME_RISKS),
        "urgencies": _most_frequent(Counter(read["urgency"].to_pylist())),
        "cameras": _most_frequent(Counter((photo.known or {}).get("camera") for photo, _, _ in store.outcomes())),
        "refusals": _most_frequent(Counter(codes.partition(" ")[0] for codes in refused["reasons"].to_pylist())),
        "failures": _most_frequent(Counter(code for _, state, code in store.outcomes() if state == "failed")),
        "measures": MEASURES,
        "meanings": MEANINGS,
        "drift": sorted(drift[:MAX_GROUPS], key=lambda group: (group["camera"], group["date"])),
        "most_drift": MAX_GROUPS if len(drift) > MAX_GROUPS else None,
        "twice": _twice(findings),
        "unsure": _least_certain(store, files),
    }
    return render("batch/page/page.html.j2", values, style="batch/page/page.css")


def _link(files: str, place: str | None, name: str, code: str | None) -> str:
    """The address of a photo's report, or nothing if there is none. code: why it could not be written."""
    folder = files_place(files, place, name, code)
    return "" if folder is None else quote(f"{folder}/report.html")


def _classes(column: pa.ChunkedArray, names: Sequence[str]) -> list[tuple[str, int]]:
    """How many photos have each class, by its name."""
    counts = Counter(column.to_pylist())
    return [(f"{index}: {name}", counts[index]) for index, name in enumerate(names)]


def _most_frequent(counts: Mapping[str | None, int]) -> list[tuple[str, int]]:
    """Texts and how often each occurs, the most frequent first; without the empty text."""
    pairs = [(text, count) for text, count in counts.items() if text]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _drift(findings: pa.Table) -> list[dict[str, Any]]:
    """By camera and day: photos, shares refused and unlike the training photos, means of measures and distance.

    The latest days first; one more than are shown, where there are more.
    """
    means = ("refused", "unlike", "training_distance", *MEASURES)
    table = findings.select(["training_distance", *MEASURES])
    table = table.append_column("camera", pc.fill_null(findings["camera"], ""))
    day = pc.call_function("utf8_slice_codeunits", [pc.fill_null(findings["date"], "")], pc.SliceOptions(0, 10))
    table = table.append_column("day", day)
    is_refused = pc.call_function("equal", [findings["state"], "refused"])
    table = table.append_column("refused", is_refused.cast(pa.float64()))
    is_unlike = pc.call_function("greater", [findings["training_percentile"], FAR_PERCENTILE])
    table = table.append_column("unlike", is_unlike.cast(pa.float64()))

    groups = table.group_by(["camera", "day"]).aggregate([([], "count_all"), *((name, "mean") for name in means)])
    groups = groups.sort_by([("day", "descending"), ("camera", "ascending")])
    rows = []
    for group in groups.slice(0, MAX_GROUPS + 1).to_pylist():
        refused, unlike, *measures = (group[f"{name}_mean"] for name in means)
        row = {"camera": group["camera"], "date": group["day"], "photos": group["count_all"]}
        rows.append(row | {"refused": refused, "unlike": unlike, "means": measures})
    return rows


def _twice(findings: pa.Table) -> list[dict[str, Any]]:
    """Files with the same bytes in several places: how many, of how many patients, and two of the places."""
    table = findings.select(["place", "sha256"])
    # Without a patient each place counts as one, as in the patients' tables.
    table = table.append_column("person", pc.call_function("coalesce", [findings["patient"], findings["place"]]))
    groups = table.group_by("sha256").aggregate(
        [("place", "count_distinct"), ("person", "count_distinct"), ("place", "min"), ("place", "max")]
    )
    repeated = (pc.field("place_count_distinct") > 1) & pc.field("sha256").is_valid()
    rows = []
    for group in groups.filter(repeated).to_pylist():
        row = {"places": group["place_count_distinct"], "patients": group["person_count_distinct"]}
        rows.append(row | {"first": group["place_min"], "last": group["place_max"]})

    rows.sort(key=lambda row: (row["patients"] == 1, -row["places"], row["first"]))
    return rows[:MAX_TWICE]


def _least_certain(store: Store, files: str) -> list[dict[str, Any]]:
    read = store.results(is_wanted=lambda state, code: state == "read")
    graded = (result for result in read if result.uncertainty is not None)
    least_certain = heapq.nsmallest(MAX_UNCERTAIN, graded, key=lambda result: -(result.uncertainty or 0))

    places = dict.fromkeys(result.place for result in least_certain)
    found = {(result.place, result.frame): result.found or {} for result in store.results(("found",), places=places)}
    rows = []
    for result in least_certain:
        headline = found[result.place, result.frame].get("headline") or {}
        parts = [headline[part]["says"] for part in ("grade", "dme") if headline.get(part)]
        link = _link(files, result.place, result.name, result.code)
        rows.append({"place": result.place, "link": link, "uncertainty": result.uncertainty, "says": "; ".join(parts)})
    return rows
