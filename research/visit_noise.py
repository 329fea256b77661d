"""How many lesions appear and disappear between two photos of one eye although nothing changed?

    python -m research.visit_noise --data DATA --answers FOLDER

Copies: a photo and itself turned, shifted, relit, or saved again at half the width. Second exposures of one eye, of one
visit, as docs/duplicates.md lists them. And what a true change is worth: every second lesion filled in (explain/
inpaint.py), as the earlier visit, next to the photo turned. Printed: the noise by kind, the constants of
`app.visit_comparison` that follow from it, and the false changes a pair by the rule of before and by today's. FOLDER
keeps the model's answers; the command continues where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from research.stored_answers import stored

from funduscope.app.viewer_data import contours_of
from funduscope.app.visit_comparison import ABSENT_FRAC, MIN_PPM, VisitComparison, compare_visits
from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.explain.inpaint import inpaint
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.inference.loading import load
from funduscope.inference.objects import MIN_PPM as OUTLINED_PPM
from funduscope.inference.predictor import Predictor
from funduscope.vocabulary import LESIONS

COPIED = (
    *(f"idrid-A/train/IDRiD_{number:02d}" for number in (2, 14, 27, 36, 41, 53)),
    *(f"eophtha/{name}" for name in ("C0001273", "C0007102", "C0014726", "DS000FGD")),
    *(f"messidor2/{name}" for name in ("IM002983", "20051202_55607_0400_PP")),
)
"""Photos of three cameras with lesions of every kind."""

EXPOSURES = (
    *((f"eophtha/{one}", f"eophtha/{two}") for one, two in (
        ("C0001273", "C0001274"), ("C0001275", "C0001276"), ("C0001883", "C0001884"), ("C0001885", "C0001886"),
        ("C0007102", "C0007106"), ("C0007104", "C0007105"), ("C0014726", "C0014727"), ("C0014728", "C0014729"),
        ("C0019839", "C0019840"), ("C0025303", "C0025305"), ("C0030734", "C0030735"), ("DS000FGD", "DS000FGE"),
    )),
    *((f"idrid-B/train/IDRiD_{one}", f"idrid-B/train/IDRiD_{two}") for one, two in (
        ("013", "397"), ("038", "126"), ("043", "401"), ("046", "404"),
    )),
    *((f"idrid-A/train/IDRiD_{one}", f"idrid-B/train/IDRiD_{two}") for one, two in (
        ("11", "083"), ("25", "347"), ("26", "299"), ("39", "271"),
    )),
    ("messidor2/IM002983", "messidor2/IM002991"),
    ("messidor2/IM002982", "messidor2/IM002990"),
)  # fmt: skip
"""Pairs of one eye and one visit."""

FILLED = COPIED[:4]

FALSE_A_PAIR = 0.25
"""Changes of one kind that a pair of second exposures may show on average, new and gone together."""


def turned(pixels: np.ndarray) -> np.ndarray:
    """By 5 degrees around the middle, and moved by half a pixel."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 5, 1)
    matrix[:, 2] += 0.5
    return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC)


def shifted(pixels: np.ndarray) -> np.ndarray:
    """Right and down by 2 % of the width and half a pixel."""
    height, width = pixels.shape[:2]
    away = 0.02 * width + 0.5
    return cv2.warpAffine(pixels, np.array([[1, 0, away], [0, 1, away]]), (width, height), flags=cv2.INTER_CUBIC)


def relit(pixels: np.ndarray) -> np.ndarray:
    """A fifth darker on the left, a fifth brighter on the right, gamma 1.15."""
    light = np.linspace(0.8, 1.2, pixels.shape[1], dtype=np.float32)[None, :, None]
    return np.rint(255 * np.clip((pixels / np.float32(255)) ** 1.15 * light, 0, 1)).astype(np.uint8)


def resaved(pixels: np.ndarray) -> np.ndarray:
    """Half as wide, as a JPEG of quality 75."""
    small = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR))


ALTERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned": turned, "shifted": shifted, "relit": relit, "resaved": resaved,
}  # fmt: skip


def filled(found: Findings) -> np.ndarray:
    """The photo with every second outlined lesion of each kind filled in: an earlier visit without them."""
    mask, others = (np.zeros((found.photo.height, found.photo.width), np.uint8) for _ in range(2))
    for code in LESIONS:
        for number, rings in enumerate(contours_of(found, code)):
            cv2.fillPoly(others if number % 2 else mask, rings, 1)
    return inpaint(found.photo.pixels, mask > 0, found.transform, avoid=others > 0)


@dataclass(frozen=True)
class Pair:
    """Two photos of an unchanged eye, or, `filled`, of a changed one.

    changes: by kind the lesions, each as areas in ppm and probabilities of the two, area 0 where a photo has no
    outline. filled: by kind how many lesions the first photo lost.
    """

    what: str
    name: str
    changes: dict[str, list[tuple[float, float, float, float]]]
    filled: dict[str, int]


def pairs_of(model: Predictor, cases: Mapping[str, Case], answers: Path) -> Iterator[Pair]:
    """Every pair that the vessels prove; from the folder, where it was compared before."""

    def found(key: str, what: str) -> Findings | None:
        def read() -> Photo:
            if what == "filled":
                whole = found(key, "as it is")
                assert whole is not None
                return Photo.open(filled(whole))
            photo = Photo.open(cases[key].path)
            return photo if what == "as it is" else Photo.open(ALTERATIONS[what](photo.pixels))

        return stored(model, f"{key} {what}", read, answers)

    wanted = [(what, (key, "as it is"), (key, what)) for what in ALTERATIONS for key in COPIED]
    wanted += [("second exposure", (one, "as it is"), (two, "as it is")) for one, two in EXPOSURES]
    wanted += [("filled", (key, "filled"), (key, "turned")) for key in FILLED]
    for what, one, two in wanted:
        name = f"{' '.join(one)}, {' '.join(two)}"
        file = answers / f"{hashlib.sha256(f'{model.sha256} {name}'.encode()).hexdigest()[:20]}.json"
        if not file.is_file():
            first, second = found(*one), found(*two)
            if first is None or second is None:
                continue
            visits = compare_visits(first, second)
            lost = found(one[0], "as it is") if what == "filled" else None
            pair = {
                "changes": {code: _numbers(visits, code) for code in LESIONS} if visits.is_one_eye else None,
                "filled": {} if lost is None else {code: -(-lost.count(code) // 2) for code in LESIONS},
            }
            file.write_text(json.dumps(pair))
        kept = json.loads(file.read_text())
        if kept["changes"] is not None:
            yield Pair(what, name, kept["changes"], kept["filled"])


def _numbers(visits: VisitComparison, code: str) -> list[tuple[float, float, float, float]]:
    return [
        (one.earlier.area_ppm, one.later.area_ppm, one.earlier.probability, one.later.probability)
        for one in visits.changes or ()
        if one.code == code
    ]


def alone(pairs: Iterable[Pair], code: str) -> np.ndarray:
    """(N, 2): area, and the highest probability in the other photo, of lesions that one photo alone outlines."""
    rows = [(a or b, q if a else p) for pair in pairs for a, b, p, q in pair.changes[code] if not (a and b)]
    return np.array(rows).reshape(-1, 2)


def print_noise(pairs: list[Pair], thresholds: Mapping[str, float]) -> None:
    """What comes and goes, and the constants that follow from it."""
    print("| pairs | kind | in both | in one alone | of these absent there | area, ppm: half, 90 %, largest |")
    print("|---|---|---|---|---|---|")
    for what in dict.fromkeys(pair.what for pair in pairs if not pair.filled):
        mine = [pair for pair in pairs if pair.what == what]
        for code in LESIONS:
            single, both = alone(mine, code), sum(bool(a and b) for pair in mine for a, b, *_ in pair.changes[code])
            absent = single[single[:, 1] < ABSENT_FRAC * thresholds[code], 0]
            areas = ", ".join(f"{area:.0f}" for area in np.percentile(absent, [50, 90, 100])) if len(absent) else "–"
            print(f"| {what} ({len(mine)}) | {code} | {both} | {len(single)} | {len(absent)} | {areas} |")
    exposures = [pair for pair in pairs if pair.what == "second exposure"]
    allowed = int(FALSE_A_PAIR * len(exposures))
    print("\n| kind | MIN_PPM | STEADY_ROOT_PPM |\n|---|---|---|")
    for code in LESIONS:
        single = alone(exposures, code)
        areas = np.sort(single[single[:, 1] < ABSENT_FRAC * thresholds[code], 0])[::-1]
        least = np.ceil(areas[allowed] + 1e-6) if len(areas) > allowed else 0
        least = max(least, OUTLINED_PPM[code])
        both = [(a, b) for pair in exposures for a, b, *_ in pair.changes[code] if a and b]
        moved = np.abs(np.diff(np.sqrt(np.array(both).reshape(-1, 2)), axis=1))
        print(f"| {code} | {least:.0f} | {np.percentile(moved, 99) if len(moved) else 0:.1f} |")


def print_rules(pairs: list[Pair], thresholds: Mapping[str, float]) -> None:
    """Changes by the rule of before (absent below half the threshold, any size) and by today's."""

    def changed(pair: Pair, code: str, frac: float, least: float) -> tuple[int, int]:
        rows = [(a, b, q if a else p) for a, b, p, q in pair.changes[code] if not (a and b)]
        rows = [row for row in rows if row[2] < frac * thresholds[code] and max(row[:2]) >= least]
        return sum(not a for a, _, _ in rows), sum(not b for _, b, _ in rows)

    print("\n| pairs | new a pair, before | now | gone a pair, before | now | pairs with any, before | now |")
    print("|---|---|---|---|---|---|---|")
    for what in dict.fromkeys(pair.what for pair in pairs if not pair.filled):
        mine = [pair for pair in pairs if pair.what == what]
        before = np.array([np.sum([changed(pair, code, 0.5, 0) for code in LESIONS], 0) for pair in mine])
        now = np.array(
            [np.sum([changed(pair, code, ABSENT_FRAC, MIN_PPM[code]) for code in LESIONS], 0) for pair in mine]
        )
        cells = [f"{means[k]:.2f}" for k in (0, 1) for means in (before.mean(0), now.mean(0))]
        cells += [f"{np.count_nonzero(counts.sum(1))} of {len(mine)}" for counts in (before, now)]
        print(f"| {what} | {' | '.join(cells)} |")
    print("\n| filled in, as the earlier visit | lesions | called new, before | now |\n|---|---|---|---|")
    mine = [pair for pair in pairs if pair.filled]
    for code in LESIONS:
        before, now = (
            sum(changed(pair, code, frac, least)[0] for pair in mine)
            for frac, least in ((0.5, 0), (ABSENT_FRAC, MIN_PPM[code]))
        )
        print(f"| {code} | {sum(pair.filled[code] for pair in mine)} | {before} | {now} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--model")
    given = parser.parse_args()
    model = load(given.model)
    assert isinstance(model, Predictor)
    pairs = list(pairs_of(model, {case.key: case for case in read_data([given.data])}, given.answers))
    print(f"{model.card.name} {model.sha256[:12]}, {len(pairs)} pairs\n")
    print_noise(pairs, model.card.thresholds)
    print_rules(pairs, model.card.thresholds)


if __name__ == "__main__":
    main()
