"""Which healthy eyes could do without the close view, and whose lesions that would lose: validation photos of a model.

    python -m research.close_view MODEL --data DATA --fold 0

FOLD is the test fold, which is left alone; the photos are those of the next one. Left out at a probability: the share
of each data set's photos of grade 0 in which the whole view alone gives grade 0 at least that. Lost: photos that show a
lesion by a mask of their own, or are of grade 2 or above by a grader who is not doubted.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

import numpy as np
from benchmarks.unseen import must_have_kept

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor, class_probabilities
from funduscope.vocabulary import NOISY_GRADE_SETS, REFERABLE_FROM

CUTS: Final = (0.5, 0.7, 0.8, 0.9, 0.95, 0.96, 0.97, 0.98, 0.99)


def shows_lesions(case: Case) -> bool:
    """Whether a lesion is known to be there."""
    outlined = any(not mask.is_absent for code, mask in case.labels.masks.items() if code != "OD")
    return outlined or (case.dataset not in NOISY_GRADE_SETS and (case.labels.grade or 0) >= REFERABLE_FROM)


def healthy_probability(model: Predictor, case: Case) -> float | None:
    """P(grade 0) by the whole view alone; None for a photo that cannot be read."""
    try:
        photo = Photo.open(case.path)
    except PhotoError:
        return None
    whole = model.whole_view(frame(photo, model.card.close_px).image)
    return float(class_probabilities(whole, "grade", model.card)[0])


def table(healthy: dict[str, list[float]], ill: list[tuple[str, float]]) -> str:
    """A line for each cut."""
    sets = sorted(healthy)
    lines = [f"| from | {' | '.join(f'{name} ({len(healthy[name])})' for name in sets)} | lost |"]
    lines.append("|---" * (len(sets) + 2) + "|")
    for cut in CUTS:
        shares = [f"{np.mean(np.array(healthy[name]) >= cut):.2f}" for name in sets]
        lost = Counter(name for name, value in ill if value >= cut)
        cells = (f"{cut:g}", *shares, ", ".join(f"{count} {name}" for name, count in sorted(lost.items())) or "none")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    given = parser.parse_args()
    model = load(given.model)
    assert isinstance(model, Predictor)
    must_have_kept(model.card, given.fold)
    healthy: dict[str, list[float]] = defaultdict(list)
    ill: list[tuple[str, float]] = []
    for case in SplitPlan.of(read_data([given.data]), given.fold).validation:
        is_healthy = case.labels.grade == 0 and case.dataset not in NOISY_GRADE_SETS
        if (is_healthy or shows_lesions(case)) and (value := healthy_probability(model, case)) is not None:
            if shows_lesions(case):
                ill.append((case.dataset, value))
            else:
                healthy[case.dataset].append(value)
    print(table(healthy, ill))


if __name__ == "__main__":
    main()
