"""What the shipped models answer for clinics whose photos no model has learned from.

    python -m research.stored_findings default --data DATA --sets odir400 drimdb eyepacs1024 aptos --out FILE
    python -m research.unseen_clinics --keep default FILE      keeps what the tables need of it in results/
    python -m research.unseen_clinics                          prints the tables from results/
    python -m research.unseen_clinics --write                  also puts them into README.md and MODEL_CARD.md

The data sets: APTOS (detail of 224 px, one reader), EyePACS at 1024 px (other patients than those of the 400 px copy,
one reader), ODIR's eyes without retinopathy, and DRIMDB (quality alone). Where a refused photo has a grade, it counts
as the worst answer, as everywhere (docs/protocol.md). Intervals: 95 %, by bootstrap over visits.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from research.figures import FILES, ROOT
from research.stored_findings import Row as StoredRow
from research.stored_findings import read_rows

from funduscope.compare.run_record import hashed
from funduscope.metrics.grading import BinaryState, GradingState
from funduscope.metrics.intervals import Interval, bootstrap, by_visit
from funduscope.metrics.state import State, ratio
from funduscope.vocabulary import DATASETS, referable

MODELS: Final = ("default", "fast")
GRADED: Final = ("aptos", "eyepacs1024")
WITHOUT_RETINOPATHY: Final = "odir400"
QUALITY: Final = "drimdb"
FINDINGS: Final = ("normal", "glaucoma", "cataract")
QUALITIES: Final = {"good": "good", "reject": "reject", "not_fundus": "no fundus"}
"""The label of quality, and how the table calls it."""

MARKER: Final = re.compile(r"(<!-- unseen clinics: (\w+) -->\n).*?(<!-- end of unseen clinics -->)", re.S)

Row = dict[str, Any]
"""A photo's labels and the model's answer, as stored."""


@dataclass(frozen=True, eq=False)
class ShareState(State):
    """Photos of which something is true, among photos."""

    hits: float
    photos: float

    @property
    def share(self) -> float:
        return ratio(self.hits, self.photos)


def answers_path(model: str) -> Path:
    return ROOT / "results" / f"unseen-{model}.jsonl.gz"


def row_of(stored: StoredRow) -> Row:
    """The labels and the answer of a photo; a photo that could not be read counts as refused."""
    row: Row = {
        "dataset": stored["dataset"],
        "key": hashed(stored["key"]),
        "visit": hashed(stored["visit"]),
        **stored["labels"],
    }
    if "error" in stored:
        return row | {"refused": True, "quality_advice": "refuse", "reasons": [stored["error"]]}

    findings = stored["findings"]
    gradable = findings["gradable"]
    row |= {
        "model": findings["model"]["sha256"],
        "refused": not gradable["ok"],
        "quality_score": gradable["score"],
        "quality_advice": gradable["advice"],
        "reasons": [reason["code"] for reason in gradable["reasons"]],
    }
    if not gradable["ok"]:
        return row

    advice = findings["advice"]
    return row | {
        "predicted_grade": findings["predicted_grade"],
        "grade_probs": findings["probabilities"],
        "grade_set": findings["grade_set"],
        "dme_probs": findings["dme"]["probabilities"],
        "referable": findings["referable"],
        "lesion_counts": {code: lesion["count"] for code, lesion in findings["lesions"].items()},
        "refer": advice["refer"],
        "urgency": advice["urgency"],
        "because": [reason["code"] for reason in advice["because"]],
    }


def keep(model: str, path: Path) -> None:
    """Keep what the tables need of a model's stored findings."""
    lines = [json.dumps(row_of(stored), separators=(",", ":")) for stored in read_rows(path)]
    text = "\n".join(lines) + "\n"
    answers_path(model).write_bytes(gzip.compress(text.encode(), mtime=0))


def read_answers(model: str) -> list[Row]:
    text = gzip.decompress(answers_path(model).read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def share_of(rows: Iterable[Row], is_hit: Callable[[Row], bool]) -> Interval:
    states = [(row["visit"], ShareState(float(is_hit(row)), 1.0)) for row in rows]
    return bootstrap(by_visit(states), lambda state: state.share)


def kappa_and_accuracy(rows: Sequence[Row]) -> tuple[Interval, Interval]:
    states = [(row["visit"], GradingState.of([row["grade"]], [row.get("predicted_grade")])) for row in rows]
    visits = by_visit(states)
    return bootstrap(visits, lambda state: state.kappa), bootstrap(visits, lambda state: state.accuracy)


def auroc(rows: Iterable[Row], is_positive: Callable[[Row], bool], score: Callable[[Row], float]) -> Interval:
    states = [(row["visit"], BinaryState.of([is_positive(row)], [score(row)], [row["refused"]])) for row in rows]
    return bootstrap(by_visit(states), lambda state: state.auroc)


def is_referable(row: Row) -> bool:
    return referable(row["grade"])


def is_called_referable(row: Row) -> bool:
    return not row["refused"] and row["referable"]["value"]


def is_given_referable_grade(row: Row) -> bool:
    return not row["refused"] and referable(row["predicted_grade"])


def is_advised_referral(row: Row) -> bool:
    return not row["refused"] and row["refer"]


def is_to_retake(row: Row) -> bool:
    """Whether the photo is refused, or the advice is to take it again."""
    return row["refused"] or row["quality_advice"] != "grade"


def table_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def header(*names: str) -> list[str]:
    return [table_line(names), "|---" * len(names) + "|"]


def shown(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def grading_rows(model: str, dataset: str) -> list[Row]:
    return [row for row in read_answers(model) if row["dataset"] == dataset and row["grade"] is not None]


def grading_table() -> list[str]:
    """Agreement of grades, and referral at the shipped threshold."""
    lines = header(
        "model", "data set", "graded photos", "refused", "kappa", "accuracy", "referable AUROC", "sensitivity",
        "specificity",
    )  # fmt: skip
    for model in MODELS:
        for dataset in GRADED:
            rows = grading_rows(model, dataset)
            kappa, accuracy = kappa_and_accuracy(rows)
            area = auroc(rows, is_referable, referable_score)
            sick = [row for row in rows if is_referable(row)]
            healthy = [row for row in rows if not is_referable(row)]
            specificity = share_of(healthy, lambda row: not row["refused"] and not row["referable"]["value"])
            lines.append(
                table_line(
                    [
                        f"`{model}`",
                        DATASETS[dataset],
                        f"{len(rows)}",
                        f"{sum(row['refused'] for row in rows)}",
                        *map(shown, (kappa, accuracy, area, share_of(sick, is_called_referable), specificity)),
                    ]
                )
            )
    return lines


def referable_score(row: Row) -> float:
    return 0.0 if row["refused"] else row["referable"]["probability"]


def healthy_table() -> list[str]:
    """Eyes without retinopathy: how many are given a referable grade or advised to be referred, by other finding."""
    lines = header(
        "model", "ODIR's eyes without retinopathy", "photos", "refused", "grade 2 or more", "advised to be referred",
        "urgently", "referred of those answered",
    )  # fmt: skip
    for model in MODELS:
        rows = [row for row in read_answers(model) if row["dataset"] == WITHOUT_RETINOPATHY]
        for finding in FINDINGS:
            eyes = [row for row in rows if row["finding"] == finding]
            answered = [row for row in eyes if not row["refused"]]
            shares = (
                share_of(eyes, lambda row: row["refused"]),
                share_of(eyes, is_given_referable_grade),
                share_of(eyes, is_advised_referral),
                share_of(eyes, lambda row: is_advised_referral(row) and row["urgency"] == "urgent"),
                share_of(answered, is_advised_referral),
            )
            lines.append(table_line([f"`{model}`", finding, f"{len(eyes)}", *map(percent, shares)]))
    return lines


def quality_table() -> list[str]:
    """Refusal does not depend on the model's network, so there is one table for both models."""
    rows = [row for row in read_answers(MODELS[0]) if row["dataset"] == QUALITY]
    lines = header("DRIMDB's label", "photos", "refused", "refused or to be taken again")
    for quality, name in QUALITIES.items():
        photos = [row for row in rows if row["quality"] == quality]
        shares = share_of(photos, lambda row: row["refused"]), share_of(photos, is_to_retake)
        lines.append(table_line([name, f"{len(photos)}", *map(percent, shares)]))
    return lines


def gradability_sentence() -> str:
    """The area under the curve of `gradable.score`, good photos against those that the authors rejected.

    A photo that is refused before it gets a score counts as 0: refusing is the right answer to a rejected one.
    """
    rows = [row | {"refused": False} for row in read_answers(MODELS[0]) if row["quality"] in ("good", "reject")]
    areas = []
    for dataset in (QUALITY, "eyepacs1024"):
        photos = [row for row in rows if row["dataset"] == dataset]
        area = auroc(photos, lambda row: row["quality"] == "good", lambda row: row.get("quality_score") or 0.0)
        areas.append(f"{DATASETS[dataset]} {shown(area)}, {len(photos)} photos")
    return f"Good against rejected photos by `gradable.score`, AUROC: {'; '.join(areas)}."


def short_table() -> str:
    """The form for the README: agreement and referral alone."""
    lines = header("model", "clinic never seen", "photos", "kappa", "referable AUROC", "sensitivity / specificity")
    for model in MODELS:
        for dataset in GRADED:
            rows = grading_rows(model, dataset)
            kappa, _ = kappa_and_accuracy(rows)
            area = auroc(rows, is_referable, referable_score)
            sensitivity = share_of([row for row in rows if is_referable(row)], is_called_referable)
            healthy = [row for row in rows if not is_referable(row)]
            specificity = share_of(healthy, lambda row: not row["refused"] and not row["referable"]["value"])
            rates = f"{sensitivity.value:.3f} / {specificity.value:.3f}"
            name = DATASETS[dataset]
            lines.append(table_line([f"`{model}`", name, f"{len(rows)}", shown(kappa), shown(area), rates]))
    return "\n".join(lines) + "\n"


def long_table() -> str:
    parts = [grading_table(), healthy_table(), quality_table(), [gradability_sentence()]]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def filled(text: str) -> str:
    """The text with the tables between this script's markers made anew."""
    tables = {"short": short_table, "long": long_table}
    return MARKER.sub(lambda match: match[1] + tables[match[2]]() + match[3], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", nargs=2, metavar=("MODEL", "FILE"))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.keep:
        keep(options.keep[0], Path(options.keep[1]))
        return

    print(long_table())
    print(short_table())
    if options.write:
        for name in FILES:
            path = ROOT / name
            path.write_text(filled(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
