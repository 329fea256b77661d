"""In how many photos are text or marks found, and what do models outline on them, before and after?

    python -m research.burned_in fast --data DATA --photos 60

Up to that many photos of each data set, evenly spread; DRIMDB has a date in each, the others hardly any. A photo
without marks is read as it was, so only those with marks are read, as they are and with the marks painted over.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from research.photos_by_set import photos_by_set

from funduscope.data.case import Case
from funduscope.imaging.framing import Frame, frame
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.inference.loading import load
from funduscope.inference.model import Model
from funduscope.vocabulary import LESIONS


@dataclass
class Totals:
    """Sums over photos: outlines whose center lies on the marks, all outlines, eyes with an edema risk, urgent ones."""

    on_marks: int = 0
    outlines: int = 0
    with_risk: int = 0
    urgent: int = 0

    def add(self, findings: Findings, framed: Frame) -> None:
        assert framed.marks is not None
        scale = len(framed.marks) / framed.transform.side_px
        for code in LESIONS:
            objects = findings.objects(code)
            self.outlines += len(objects)
            if objects:
                centers = np.array([(lesion.x_px, lesion.y_px) for lesion in objects])
                columns, rows = (framed.transform.to_frame(centers) * scale).astype(int).T
                last = len(framed.marks) - 1
                self.on_marks += int(framed.marks[rows.clip(0, last), columns.clip(0, last)].sum())

        self.with_risk += bool(findings.dme)
        self.urgent += findings.advice is not None and findings.advice.urgency == "urgent"

    def cells(self) -> str:
        return f"{self.on_marks} | {self.outlines} | {self.with_risk} | {self.urgent}"


def measure(model: Model, cases: Sequence[Case]) -> tuple[int, int, Totals, Totals]:
    """Photos with marks, those of them that are answered, and the sums before and after."""
    n_marked = n_answered = 0
    before, after = Totals(), Totals()

    for case in cases:
        photo = Photo.open(case.path)
        framed = frame(photo, model.card.close_px)
        if framed.marks is None:
            continue

        n_marked += 1
        as_it_is = replace(framed, marks=None).resampled(photo.pixels, model.card.close_px)
        reference, candidate = model.answer(photo, as_it_is), model.answer(photo, framed)
        if candidate.gradable_ok:
            n_answered += 1
            before.add(reference, framed)
            after.add(candidate, framed)
    return n_marked, n_answered, before, after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=60)
    options = parser.parse_args()
    model = load(options.model)

    what = "on marks | outlines | edema risk | urgent"
    print(f"| data set | photos | with marks | answered | before: {what} | after: {what} |")
    print("|---" * 12 + "|")
    for name, chosen in photos_by_set(options.data, options.photos).items():
        n_marked, n_answered, before, after = measure(model, chosen)
        cells = f"{len(chosen)} | {n_marked} | {n_answered} | {before.cells()} | {after.cells()}"
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
