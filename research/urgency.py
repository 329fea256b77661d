"""How many eyes are referred, and urgently, by the evidence that inference/urgency.toml asks for; and fits it.

    python -m research.urgency FILE.jsonl...          prints docs/trust.md's tables of whole findings that are stored
    python -m research.urgency FILE.jsonl... --fit    also tries other values on the validation fold
    python -m research.urgency FILE.jsonl... --write  also puts the tables into docs/trust.md

FILE: what `python -m research.stored_findings` wrote, of photos that the model did not learn from. Values are fitted on
fold 1, and fold 0 stands apart. A healthy eye is one of grade 0 and, where it is known, edema risk 0 (grade 0 implies
it). Of those that the model answered at most `MAX_REFERRED` may be referred in each data set, `MAX_URGENT` urgently.
DRIMDB's good photos have no grade, so they bind nothing.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from research.figures import MARKER, ROOT
from research.stored_findings import read_rows

from funduscope.inference import rules
from funduscope.inference.anatomy import Anatomy
from funduscope.inference.objects import LesionObject
from funduscope.inference.rules import Advice, ModelAnswer, Supported, advise, advise_nothing, support
from funduscope.inference.urgency import UrgencyTable, urgency_table
from funduscope.vocabulary import DATASETS, REFERABLE_FROM

MODEL_NAMES: Final[Mapping[str, str]] = {"flagship": "default"}
"""How the documents call a model whose recipe has another name."""

MAX_REFERRED: Final = 0.10
MAX_URGENT: Final = 0.03
VALIDATION_FOLD, TEST_FOLD = 1, 0

GRID: Final[Mapping[str, Sequence[float]]] = {
    "dme_probability": (0.5, 0.6, 0.7, 0.8),
    "exudate_area_dd2": (0.0, 0.001, 0.002, 0.004, 0.008),
}


@dataclass(frozen=True)
class Eye:
    """A photo that the model answered, with what its advice is made of."""

    model: str
    dataset: str
    fold: int
    grade: int | None
    risks: tuple[int, ...]
    """The edema risks that the labels leave possible; none if nothing is known."""

    is_good: bool
    """Whether a data set without grades calls the photo good."""

    supported: Supported
    answer: ModelAnswer
    is_hardly_visible: bool

    @property
    def is_healthy(self) -> bool:
        return self.grade == 0 and (not self.risks or 0 in self.risks)

    @property
    def is_referable(self) -> bool:
        return (self.grade or 0) >= REFERABLE_FROM or min(self.risks, default=0) > 0

    @property
    def is_urgent(self) -> bool:
        return self.grade == 4 or min(self.risks, default=0) == 2

    def advice(self) -> Advice:
        return advise_nothing() if self.is_hardly_visible else advise(self.supported, self.answer)


def lesion_of(tree: Mapping[str, Any]) -> LesionObject:
    return LesionObject(**tree)


def eye_of(row: Mapping[str, Any]) -> Eye | None:
    """The eye of a stored row; None of a photo without an answer."""
    findings = row.get("findings")
    if findings is None or findings["advice"] is None:
        return None

    points, labels = findings["landmarks"], row["labels"]
    disc, fovea = points["optic_disc"] or {}, points["fovea"] or {}
    center = (fovea["x_px"], fovea["y_px"]) if fovea else None
    anatomy = Anatomy(fovea_xy=center, disc_diameter_px=disc.get("diameter_px"))
    lesions = {code: [lesion_of(one) for one in kind["objects"]] for code, kind in findings["lesions"].items()}
    edema = findings["dme"] or {}
    recipe = str(findings["model"]["name"])
    return Eye(
        model=MODEL_NAMES.get(recipe, recipe),
        dataset=row["dataset"],
        fold=row["fold"],
        grade=labels["grade"],
        risks=tuple(labels["dme"] or ()),
        is_good=labels["quality"] == "good" and labels["grade"] is None,
        supported=support(lesions, anatomy),
        answer=ModelAnswer(findings["probabilities"], edema.get("probabilities"), findings["referable"]["threshold"]),
        is_hardly_visible=rules.is_hardly_visible(findings),
    )


def read_eyes(paths: Iterable[Path]) -> list[Eye]:
    eyes = []
    keys = set[tuple[str, str]]()
    for path in paths:
        for row in read_rows(path):
            eye = eye_of(row)
            if eye is not None and (eye.model, row["key"]) not in keys:
                keys.add((eye.model, row["key"]))
                eyes.append(eye)
    return eyes


@dataclass
class Counts:
    eyes: int = 0
    referred: int = 0
    urgent: int = 0

    def add(self, advice: Advice) -> None:
        self.eyes += 1
        self.referred += advice.refer
        self.urgent += advice.urgency == "urgent"

    @property
    def is_within_limits(self) -> bool:
        return self.referred <= MAX_REFERRED * self.eyes and self.urgent <= MAX_URGENT * self.eyes


def count(eyes: Iterable[Eye]) -> Counts:
    counts = Counts()
    for eye in eyes:
        counts.add(eye.advice())
    return counts


def by_dataset(eyes: Iterable[Eye]) -> dict[str, list[Eye]]:
    groups: dict[str, list[Eye]] = defaultdict(list)
    for eye in eyes:
        groups[eye.dataset].append(eye)
    return dict(sorted(groups.items()))


def tables_of_grid(start: UrgencyTable) -> Iterable[UrgencyTable]:
    for values in itertools.product(*GRID.values()):
        yield replace(start, evidence=replace(start.evidence, **dict(zip(GRID, values, strict=True))))


def fit(eyes: Sequence[Eye]) -> None:
    """Print the values within the limits, first those that refer the most of the eyes that need it."""
    healthy = by_dataset(eye for eye in eyes if eye.is_healthy)
    lines = []
    for table in tables_of_grid(urgency_table()):
        with patch.object(rules, "urgency_table", lambda table=table: table):
            counts = [count(group) for group in healthy.values()]
            referable = count(eye for eye in eyes if eye.is_referable)
            urgent = count(eye for eye in eyes if eye.is_urgent)
        over = sum(not one.is_within_limits for one in counts)
        lines.append((-over, referable.referred, urgent.urgent, -sum(one.urgent for one in counts), table.evidence))

    lines.sort(key=lambda line: line[:4], reverse=True)
    print("sets over the limits, referable referred, urgent urgently, healthy urgently, evidence")
    for over, referred, urgently, healthy_urgently, evidence in lines[:30]:
        print(-over, referred, urgently, -healthy_urgently, evidence)


def share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else "-"


def table_lines(eyes: Sequence[Eye]) -> list[str]:
    lines = [
        "| model, fold | data set | healthy eyes | referred | urgently | to be referred | referred | "
        "grade 4 or risk 2 | urgently |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, fold in itertools.product(sorted({eye.model for eye in eyes}), (VALIDATION_FOLD, TEST_FOLD)):
        for dataset, group in by_dataset(eye for eye in eyes if (eye.model, eye.fold) == (model, fold)).items():
            healthy = count(eye for eye in group if eye.is_healthy or eye.is_good)
            referable = count(eye for eye in group if eye.is_referable)
            urgent = count(eye for eye in group if eye.is_urgent)
            if not healthy.eyes and not referable.eyes:
                continue  # no grade, no risk and no quality is known

            name = f"{DATASETS[dataset]}{' (good photos, grade unknown)' if any(eye.is_good for eye in group) else ''}"
            cells = [
                f"`{model}`, {fold}", name, str(healthy.eyes), share(healthy.referred, healthy.eyes),
                share(healthy.urgent, healthy.eyes), str(referable.eyes), share(referable.referred, referable.eyes),
                str(urgent.eyes), share(urgent.urgent, urgent.eyes),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_document(text: str) -> None:
    """Replace what stands between this script's markers in docs/trust.md."""
    path = ROOT / "docs" / "trust.md"
    document = path.read_text("utf-8")
    path.write_text(
        MARKER.sub(lambda match: f"{match[1]}{text}{match[3]}" if match[2] == "urgency" else match[0], document),
        "utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()

    eyes = read_eyes(options.files)
    if options.fit:
        fit([eye for eye in eyes if eye.fold == VALIDATION_FOLD])
    text = "\n".join(table_lines(eyes)) + "\n"
    print(text)
    if options.write:
        write_document(text)


if __name__ == "__main__":
    main()
