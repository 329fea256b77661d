"""The tables of a batch: written group by group, whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from funduscope.atomic import replacing
from funduscope.batch.columns import Column
from funduscope.batch.results import StoredResult
from funduscope.data.csv_cells import spreadsheet_cell

GROUP_ROWS: Final = 2000
"""Rows that are in memory at once, and that a reader may skip together."""

_TYPES: Final = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


def write_parquet(path: Path, columns: Sequence[Column], rows: Iterable[Any]) -> None:
    """Writes a table with a row of `columns` for each of `rows`. Units are fields' metadata."""
    fields = [
        pa.field(column.name, _TYPES[column.kind], metadata={"unit": column.unit} if column.unit else None)
        for column in columns
    ]
    schema = pa.schema(fields)
    with (
        replacing(path) as unfinished,
        unfinished.open("wb") as raw,  # PyArrow by itself takes no name that is not UTF-8
        pq.ParquetWriter(raw, schema, compression="zstd") as file,
    ):
        for group in _groups(rows):
            values = {column.name: [_fitting(column.value(row), column) for row in group] for column in columns}
            file.write_table(pa.table(values, schema=schema))


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """The same as a table for spreadsheets; texts are guarded against formulas."""
    with (
        replacing(path) as unfinished,
        unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        for row in rows:
            table.writerow([spreadsheet_cell(row.get(name)) for name in names])


def lesion_rows(results: Iterable[StoredResult]) -> Iterator[dict[str, Any]]:
    """A row per lesion, for `LESION_COLUMNS`, next to what names its photo."""
    for one in results:
        for kind, objects in (one.lesions or {}).items():
            for number, lesion in enumerate(objects, 1):
                yield {**lesion, "kind": kind, "number": number, "of": one}


def sort_rows(rows: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], tuple[Any, ...]]) -> pa.ChunkedArray:
    """The rows as JSON, sorted by a key of numbers and texts: so they take a tenth of the memory of dictionaries."""
    groups = []
    for group in _groups(rows):
        columns: dict[str, Sequence[Any]] = {"row": [json.dumps(row) for row in group]}
        for index, values in enumerate(zip(*map(key, group), strict=True)):
            columns[f"key{index}"] = values
        groups.append(pa.table(columns))
    if not groups:
        return pa.chunked_array([], pa.string())

    table = pa.concat_tables(groups)
    keys = [(name, "ascending") for name in table.column_names if name != "row"]
    return table.sort_by(keys)["row"]


def decode_rows(rows: pa.ChunkedArray) -> Iterator[dict[str, Any]]:
    """The rows that `sort_rows` sorted."""
    return (json.loads(row.as_py()) for row in rows)


def _groups(rows: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    for row in rows:
        group.append(row)
        if len(group) == GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _fitting(value: Any, column: Column) -> Any:
    """The value in its column's type. Names of files that are not valid Unicode are spelled out."""
    if value is None:
        return None
    if column.kind == "text":
        return str(value).encode("utf-8", "backslashreplace").decode()
    return float(value) if column.kind == "float" else value
