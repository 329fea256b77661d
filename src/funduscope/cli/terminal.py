"""Output on the terminal: progress, one line per error, a sentence per photo, a table of scores."""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from funduscope.vocabulary import CODES, FURTHER_TASKS, structure

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")
_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")  # made before memory may run out


def shown(text: str) -> str:
    """The text on one line, with what a terminal could act on (control characters, text direction) replaced."""
    line = _BREAKS.sub(" ", text.strip()).replace("\t", " ")
    # Other spaces stay: they may belong to a path.
    return "".join(char if char.isprintable() or unicodedata.category(char) == "Zs" else "\ufffd" for char in line)


def complain(text: str) -> None:
    """Prints one line on stderr."""
    print(f"funduscope: {shown(text)}", file=sys.stderr, flush=True)


def note_system_files(sources: Iterable[Path]) -> None:
    """Prints one line about what systems added to these folders, if there is any: it is not read."""
    from funduscope.imaging.hidden_files import describe_system_files

    if sentence := describe_system_files(sources):
        complain(f"note: {sentence}")


def tracked(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Passes the items on, with a progress bar on stderr if that is a terminal. label: stands next to the bar."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console, is_shared = Console(stderr=True), sys.stdout is not None and sys.stdout.isatty()
    # Lines for a file or a pipe must not go to the bar's terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=is_shared) as bar:
        count = len(items) if total is None and hasattr(items, "__len__") else total  # pyright: ignore[reportArgumentType]
        yield from bar.track(items, count, description=label)


def sentence(found: Mapping[str, Any], path: Path | None = None) -> str:
    """One line that sums up findings. found: as in findings.json. path: of the file; its folder stands before the
    photo's name, which several photos may have."""
    name = found["photo"]["name"]
    name = name if path is None else path.with_name(name)
    headline = found["headline"]
    trust = f"{headline['trust']['says']} " if headline["trust"] else ""
    if not found["gradable"]["ok"]:
        return shown(f"{name}: {trust}{' '.join(reason['says'] for reason in found['gradable']['reasons'])}")
    parts = [headline[part]["says"] for part in ("grade", "dme") if headline[part]]
    answers = found.get("tasks") or {}
    parts += [f"{task.title}: {answers[task.name]['class_name']}" for task in FURTHER_TASKS if task.name in answers]
    if headline["referral"]:
        parts.append(headline["referral"]["says"])
    lesions = found.get("lesions") or {}
    counts = [f"{structure(code).name.lower()} {lesions[code]['count']}" for code in CODES if code in lesions]
    if counts:
        parts.append(", ".join(counts))
    points = (found.get("landmarks") or {}) if not parts else {}  # what a model of landmarks or the disc alone found
    parts += [f"{what.replace('_', ' ')} at ({at['x_px']}, {at['y_px']}) px" for what, at in points.items() if at]
    return shown(f"{name}: {trust}{'; '.join(parts) or 'The model answers nothing but what it outlines'}.")


def score_table(dataset: str, states: Mapping[str, Mapping[str, Any]], details: Mapping[str, Any]) -> Table:
    """The scores of one data set as a table. states: state to score to interval. details: counts of photos."""
    from rich.table import Table

    refused = f", {details['refused']} refused" if details.get("refused") else ""
    photos = "1 photo" if details["photos"] == 1 else f"{details['photos']} photos"
    table = Table(title=f"{dataset}: {photos}{refused}", title_justify="left")
    for heading in ("question", "score", "value", "95 % interval"):
        is_words = heading in ("question", "score")  # these may be folded: an interval is never cut
        table.add_column(heading, justify="left" if is_words else "right", no_wrap=not is_words, overflow="fold")
    for state, scores in states.items():
        for number, (score, interval) in enumerate(scores.items()):
            spread = f"[{_number(interval.low)}, {_number(interval.high)}]".replace("[", r"\[")
            table.add_row("" if number else state, score, _number(interval.value), spread)
        table.add_section()
    return table


def challenge_table(measures: Mapping[str, Any]) -> Table:
    """The measures of IDRiD's challenge as a table. measures: by sub-challenge and name the interval."""
    from rich.table import Table

    table = Table(title="IDRiD's challenge, by sub-challenge", title_justify="left")
    for heading in ("measure", "value", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "measure" else "right", no_wrap=True)
    for name, interval in measures.items():
        spread = f"[{_number(interval.low)}, {_number(interval.high)}]".replace("[", r"\[")
        table.add_row(name, _number(interval.value), spread)
    return table


def doctor_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """A line per kind of finding, errors first, then the counts. report: as in doctor.json."""
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for finding in report["findings"]:
        kinds.setdefault((finding["severity"], finding["kind"]), []).append(finding)
    for (severity, kind), (first, *others) in kinds.items():
        more = f" And {len(others)} more of this kind." if others else ""
        files = f" ({', '.join(first['files'][:2])})" if first["files"] else ""
        yield shown(f"{severity}: {kind}: {first['says']}{files}{more}")
    counts = ", ".join(
        f"{count} info" if severity == "info" else _counted(count, severity)
        for severity, count in report["counts"].items()
    )
    photos, findings = _counted(report["photos"], "photo"), _counted(len(report["findings"]), "finding")
    yield f"{photos}, {findings}: {counts}."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
