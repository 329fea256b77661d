"""Which photos a run knows, and in which fold: by their names or, wherever they are listed now, by their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from funduscope.atomic import damaged, file_sha256
from funduscope.data.case import Case
from funduscope.data.folds import TABLE, Place, fold_key, read_folds, write_folds
from funduscope.data.rows import read_sheet

SHA256 = "sha256"
"""The column of a run's folds.csv that a data set's own does not have."""


@dataclass(frozen=True)
class Known:
    """places: key to (visit, fold) of the given photos that the run lists. visits: visit to fold of every visit that
    the run lists, also of those with none of the given photos."""

    places: dict[str, Place]
    visits: dict[str, int]

    def fold(self, case: Case) -> int | None:
        """The fold of a photo, or of its visit; None if the run knows neither."""
        return self.places[case.key][1] if case.key in self.places else self.visits.get(case.visit)

    def visit(self, case: Case) -> str | None:
        """The visit of a photo, as the run calls it; None if it knows none."""
        own = self.places[case.key][0] if case.key in self.places else case.visit
        return own if own in self.visits or case.key in self.places else None


@dataclass(frozen=True)
class RunFolds:
    """The folds.csv of a run. places: (subset, image) to (visit, fold). digests: the SHA-256 of a file to the same;
    empty where the folds were never written."""

    places: dict[tuple[str, str], Place]
    digests: dict[str, Place] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> RunFolds:
        """Raises `LabelError` as `read_folds` does, `DamagedFileError` if the end of the file is missing: the photos
        whose rows are lost would pass for unknown."""
        if not path.read_bytes().endswith(b"\n"):
            raise damaged(path, "its end is missing")
        places = read_folds(path)
        rows = read_sheet(path).rows
        keyed = {row.text(SHA256): places[row.text("subset"), row.text("image")] for row in rows if row.text(SHA256)}
        return cls(places, keyed)

    def of(self, cases: Sequence[Case]) -> Known:
        """What the run knows of these photos.

        Names in a table are its owner's, and another clinic's photos may have the same ones: they count where one photo
        at least of the table has the bytes that the run knows by such a name.
        """
        visits = dict(self.places.values())
        named = {case.key: self.places[fold_key(case)] for case in cases if fold_key(case) in self.places}
        if not self.digests:
            return Known(named, visits)

        in_table = {case.key for case in cases if case.dataset == TABLE}
        unsure = [case for case in cases if case.key not in named or case.key in in_table]
        same = {case.key: self.digests[digest] for case in unsure if (digest := _digest(case.path)) in self.digests}
        if not in_table & named.keys() & same.keys():
            named = {key: place for key, place in named.items() if key not in in_table}
            visits = {visit: fold for visit, fold in visits.items() if not visit.startswith(f"{TABLE}/")}
        return Known(named | same, visits)

    @staticmethod
    def write(cases: Sequence[Case], path: Path) -> None:
        """Writes the cases that have a fold, which `read` reads back; so does `read_folds`."""
        write_folds(cases, path, {SHA256: lambda case: _digest(case.path)})


def _digest(path: Path) -> str:
    """The SHA-256 of a file; empty if it cannot be read."""
    try:
        return file_sha256(path)
    except OSError:
        return ""
