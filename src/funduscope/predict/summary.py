"""summary.csv: one row a photo, for spreadsheets; written row by row, so that a million photos need no more memory."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from funduscope.vocabulary import GRADES, LESIONS

Cell = str | int | float | bool | None

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class SummaryRow:
    """What one photo's row says; what is not known stays empty.

    `found`: findings as `Findings.to_dict()` gives them, empty for a photo that failed. `folder`: where its results
    lie, empty where none were written.
    """

    photo: str
    error: str = ""
    folder: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any], folder: str = "") -> SummaryRow:
        """The row of findings.json's content."""
        return cls(photo=found["photo"]["name"], folder=folder, found=found)

    @classmethod
    def of_failure(cls, failed: Mapping[str, Any]) -> SummaryRow:
        """The row of a failure as `Failure.to_dict()` gives it."""
        return cls(photo=failed["photo"]["name"], error=failed["error"]["code"])

    def cells(self) -> dict[str, Cell]:
        """Every column with its value, in the columns' order."""
        found = self.found
        dme, referable = found.get("dme") or {}, found.get("referable") or {}
        chances = found.get("probabilities") or [None] * len(GRADES)
        row: dict[str, Cell] = {
            "photo": self.photo,
            "error": self.error,
            "gradable": (found.get("gradable") or {}).get("ok"),
            "grade": found.get("predicted_grade"),
            "grade_name": found.get("grade_name"),
            "confidence": found.get("confidence"),
        }
        row |= {f"p{grade}": chance for grade, chance in enumerate(chances)}
        row |= {"dme": dme.get("risk"), "dme_confidence": dme.get("confidence")}
        row |= {"referable": referable.get("value"), "referable_probability": referable.get("probability")}
        lesions, landmarks = found.get("lesions") or {}, found.get("landmarks") or {}
        row |= {f"{code}_count": (lesions.get(code) or {}).get("count") for code in LESIONS}
        for column, landmark in (("fovea", "fovea"), ("disc", "optic_disc")):
            point = landmarks.get(landmark) or {}
            row |= {f"{column}_{axis}_px": point.get(f"{axis}_px") for axis in "xy"}
        row["folder"] = self.folder
        return row


COLUMNS: Final[tuple[str, ...]] = tuple(SummaryRow("").cells())


@contextmanager
def open_summary(path: Path) -> Iterator[Callable[[SummaryRow], None]]:
    """Gives the function that adds a row to the summary at `path`, which appears when the block is left.

    It also appears when the block is left by an interruption or an error, with the rows added until then, each of them
    whole; where writing itself fails (a full disk), it does not appear and an earlier one stays. Raises
    `FileExistsError` at once where something else than an earlier summary stands there.
    """
    path = Path(path)
    _check_place(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    refused: list[OSError] = []
    # A name that is not valid Unicode is spelled out instead of ending the run.
    file = unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    table = csv.writer(file, lineterminator="\n")

    def put(row: Sequence[str | int | float]) -> None:
        try:
            table.writerow(row)
        except OSError as error:
            refused.append(error)
            raise

    try:
        put(COLUMNS)
        yield lambda row: put(harmless(row))
    finally:
        try:
            file.close()
        except OSError as error:
            refused.append(error)
        if refused:
            unfinished.unlink(missing_ok=True)
            raise refused[0]
        unfinished.replace(path)


def _check_place(path: Path) -> None:
    """Raises `FileExistsError` unless nothing stands there, or a table with just these columns."""
    if not path.exists():
        return
    header = (",".join(COLUMNS) + "\n").encode()
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(header)) in (b"", header):
                return
    raise FileExistsError(f"{path} is no summary that this program wrote and would be lost: choose another folder.")


def write_summary(rows: Iterable[SummaryRow], path: Path) -> Path:
    """Writes the rows as they come, holding one at a time; returns `path`."""
    with open_summary(path) as add:
        for row in rows:
            add(row)
    return Path(path)


def harmless(row: SummaryRow) -> list[str | int | float]:
    """The row's cells as they are written."""
    return [_harmless(cell) for cell in row.cells().values()]


def _harmless(cell: Cell) -> str | int | float:
    """A cell that no spreadsheet takes for a formula; numbers, which this program wrote itself, stay numbers."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        text = cell.replace("\0", "")
        return f"'{text}" if text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS) else text
    return cell
