"""summary.csv: one row per photo, for spreadsheets. Rows are written one by one, so that memory stays flat.

A run replaces the rows of the photos that it reads. Rows of earlier runs stay, and so does what a person wrote to the
right of this program's columns.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import replacing
from funduscope.data.csv_cells import spreadsheet_cell
from funduscope.vocabulary import DME_RISKS, FURTHER_TASKS, GRADES, LESIONS

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class SummaryRow:
    """One photo's row; unknown values are empty.

    found: as in findings.json; empty for a photo that failed. folder: of its results; empty if none were written.
    error: the code that says why not. path: of the photo, which tells photos of one name apart.
    """

    photo: str
    error: str = ""
    folder: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""

    @classmethod
    def of(cls, found: Mapping[str, Any], path: Path, folder: str = "") -> SummaryRow:
        """The row of findings, with the code of their `error` if they could not be written, or of a failure as JSON."""
        place = os.path.abspath(path)  # noqa: PTH100 (a link to another photo stays a link)
        return cls(found["photo"]["name"], (found.get("error") or {}).get("code", ""), folder, found, place)

    def cells(self) -> dict[str, Cell]:
        """Every column with its value, in the columns' order."""
        found = self.found
        dme, referable, lesions, landmarks, tasks = (
            found.get(key) or {} for key in ("dme", "referable", "lesions", "landmarks", "tasks")
        )
        further = {task.name: tasks.get(task.name) or {} for task in FURTHER_TASKS}
        chances = found.get("probabilities") or [None] * len(GRADES)
        gradable, model = found.get("gradable") or {}, found.get("model") or {}
        edema = dme.get("probabilities") or [None] * len(DME_RISKS)
        points = {"fovea": landmarks.get("fovea") or {}, "disc": landmarks.get("optic_disc") or {}}
        return {
            "photo": self.photo,
            "path": self.path,
            "error": self.error,
            "gradable": gradable.get("ok"),
            "gradability": gradable.get("score"),
            "advice": gradable.get("advice"),
            "eye": found.get("laterality"),
            "grade": found.get("predicted_grade"),
            "grade_name": found.get("grade_name"),
            "confidence": found.get("confidence"),
            **{f"p{grade}": chance for grade, chance in enumerate(chances)},
            "dme": dme.get("risk"),
            "dme_confidence": dme.get("confidence"),
            **{f"dme_p{risk}": chance for risk, chance in enumerate(edema)},
            **{name: answer.get("class") for name, answer in further.items()},
            **{f"{name}_confidence": answer.get("confidence") for name, answer in further.items()},
            "referable": referable.get("value"),
            "referable_probability": referable.get("probability"),
            "refer": (found.get("advice") or {}).get("refer"),
            "urgency": (found.get("advice") or {}).get("urgency"),
            "referral": ((found.get("headline") or {}).get("referral") or {}).get("code"),
            **{f"{code}_count": (lesions.get(code) or {}).get("count") for code in LESIONS},
            **{f"{name}_{axis}_px": point.get(f"{axis}_px") for name, point in points.items() for axis in "xy"},
            "warnings": " ".join(one["code"] for one in found.get("warnings") or ()),
            "model": f"{model['name']} {model['version']}" if model else None,
            "model_sha256": model.get("sha256"),
            "folder": self.folder,
        }


COLUMNS: Final[tuple[str, ...]] = tuple(SummaryRow("").cells())
_OWN: Final = len(COLUMNS)


@contextmanager
def open_summary(path: Path) -> Iterator[Callable[[SummaryRow], None]]:
    """Gives the function that adds a row to the summary at `path`; the file appears when the block ends.

    A row replaces the earlier row of the same folder; otherwise one of the same photo without a folder (the photo had
    failed); otherwise it is added below. Other earlier rows stay, but for failures of a photo that has a new row. If an
    error or interruption ends the block, the rows added until then are kept. If writing itself fails (a full disk), the
    earlier summary stays as it is. Raises `FileExistsError` at once if another file has this name.
    """
    path = Path(path)
    _check_place(path)
    refused: list[OSError] = []
    interrupted: BaseException | None = None
    with replacing(path) as unfinished:
        # A name that is not valid Unicode is spelled out instead of ending the run.
        with unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table = csv.writer(file, lineterminator="\n")

            def put(row: SummaryRow) -> None:
                try:
                    table.writerow(spreadsheet_cells(row))
                except OSError as error:
                    refused.append(error)
                    raise

            table.writerow(COLUMNS)
            try:
                yield put
            except BaseException as error:
                interrupted = error
            if refused:
                raise refused[0]
        _check_place(path)
        if path.exists() and path.stat().st_size > 0:
            _add_earlier_rows(path, unfinished)
    if interrupted is not None:
        raise interrupted


def is_summary(path: Path) -> bool:
    """Whether the file is a table that starts with this program's columns and can be read to its end."""
    try:
        with _opened(path) as file:
            rows = csv.reader(file)
            # Some spreadsheets start the file with a byte order mark.
            if tuple(cell.lstrip("\ufeff") for cell in next(rows, [])[:_OWN]) != COLUMNS:
                return False
            for _ in rows:
                pass
            return True
    except (OSError, csv.Error):
        return False


def _opened(path: Path) -> io.TextIOWrapper:
    """The table, opened for reading. Bytes that are not UTF-8, as some spreadsheets write, are kept as they are."""
    return path.open(encoding="utf-8", errors="surrogateescape", newline="")


def _check_place(path: Path) -> None:
    """Raises `FileExistsError` unless the path is free, an empty file, or an earlier summary."""
    if path.exists() and not (path.is_file() and (path.stat().st_size == 0 or is_summary(path))):
        raise FileExistsError(
            f"{path} was not written by this program and would be overwritten: choose another folder."
        )


def _add_earlier_rows(earlier: Path, fresh: Path) -> None:
    """Merges the rows of the earlier table that were not written again into the fresh one."""
    with (
        replacing(fresh) as merged,
        merged.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(_merged(earlier, fresh))


def _merged(earlier: Path, fresh: Path) -> Iterator[list[str]]:
    """The earlier rows in their order, each replaced by its fresh row if there is one; then the other fresh rows.

    A fresh row belongs to the earlier row of its folder or, without one, to the first row without a folder (a failure)
    of its photo. Other failures of photos that have a fresh row are left out, unless a person wrote next to them.
    """
    with _opened(fresh) as table, _opened(earlier) as file:
        folders = {_folder(row) for row in csv.reader(file)}
        new = dict(enumerate(csv.reader(table)))
        del new[0]  # the header
        numbers: dict[tuple[str, ...], list[int]] = {}
        for number, row in new.items():
            folder = _folder(row)
            numbers.setdefault((folder,) if folder in folders - {""} else _photo(row), []).append(number)
        read_again = {_photo(row)[1] for row in new.values()}
        file.seek(0)
        rows = csv.reader(file)
        yield next(rows)
        for row in rows:
            folder = _folder(row)
            same = numbers.get((folder,) if folder else _photo(row))
            if same:
                yield [*new.pop(same.pop(0)), *row[_OWN:]]
            elif folder or _photo(row)[1] not in read_again or any(row[_OWN:]):
                yield row
        yield from new.values()


def _photo(row: Sequence[str]) -> tuple[str, ...]:
    """Name and path of a row's photo; the name again without a path. The frames of a file have one path."""
    name, path = (*row[:2], "", "")[:2]
    return name, path or name


def _folder(row: Sequence[str]) -> str:
    return row[_OWN - 1] if len(row) >= _OWN else ""


def spreadsheet_cells(row: SummaryRow) -> list[str | int | float]:
    """The row's cells as they are written; texts are guarded against formulas."""
    return [spreadsheet_cell(cell) for cell in row.cells().values()]
