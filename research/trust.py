"""How far a model can be trusted, where it was not fitted: grade sets, refusing, distance from the training photos.

    python -m research.trust MODEL --data DATA --fold 0

Needs a model whose card has a quantile and a reference (every run has). The test fold
is FOLD, the next one the validation fold on which everything in the card was fixed. Looking takes minutes and is kept
in --cache. Sections: conformal (coverage and size of grade sets by data set and by grade; other scores next to the one
that was chosen, each fitted on half of the validation photos and judged on the other half), refusing (risk against
coverage by `gradable.score`, photos as they are, and with spoiled copies among them), distance (which photos lie beyond
the 95th and 99th percentile). Grades are the model's answers: of a model whose lesions are a witness of the grade,
both witnesses' joint one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from benchmarks.unseen import for_photo_tasks, must_have_kept
from research.gradability import TESTED
from research.not_fundus import medical, papers, rounds
from research.trust_tables import Seen, conformal_tables, distance_table, refusing_tables

from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor
from funduscope.quality.assessment import assess
from funduscope.testing.drawn_eyes import STYLES, draw_eye

DRAWN, OTHERS_EACH = 60, 3
SPOILED_EVERY: Final = 4
"""Every so many graded photos of the model's clinics are also looked at spoiled in every way of gradability.py."""


@dataclass(frozen=True)
class Job:
    """A picture to look at, and what is known of it."""

    dataset: str
    key: str
    visit: str
    fold: int
    grade: int
    path: Path | None
    spoil: bool = False


def jobs(data: Path, fold: int, folds: int = 5) -> Iterator[Job]:
    """Every photo of the test and the validation fold, and of other cameras."""
    cases = [case for case in SplitPlan.of(read_data([data])).cases if case.fold in (fold, (fold + 1) % folds)]
    cases = [case for case in cases if case.labels.quality != "reject"]
    graded = 0
    for case in cases:
        grade = -1 if case.labels.grade is None else case.labels.grade
        own = case.dataset in ("idrid-B", "srahim") and grade >= 0
        graded += own
        spoil = own and graded % SPOILED_EVERY == 0
        yield Job(case.dataset, case.key, case.visit, case.fold or 0, grade, case.path, spoil)
    for path in sorted((data / "cameras").rglob("*")):
        if path.suffix.lower() in (".jpg", ".png", ".tif"):
            yield Job("cameras", f"cameras/{path.name}", path.name, -1, -1, path)


def look(predictor: Predictor, job: Job, kind: str, pixels: np.ndarray) -> Seen:
    """The model's answer to a picture, whatever would be refused."""
    framed = frame(pixels, predictor.card.close_px)
    reasons, quality = assess(framed, pixels)
    findings, views = predictor.run(Photo(pixels, job.key, sha256=""), framed)
    if findings.grade_probs is None or views.whole.features is None:
        raise SystemExit("The model gives no grade or no features: nothing to show.")
    score = float("nan") if quality is None else quality.score
    codes = " ".join(reason.code for reason in reasons)
    return Seen(job.dataset, job.key, job.visit, job.fold, kind, job.grade, score, codes, findings.grade_probs,
                views.whole.features[0])  # fmt: skip


def looks(predictor: Predictor, data: Path, fold: int) -> Iterator[Seen]:
    """Every job's, spoiled ones after the photo as it is; drawn eyes and other pictures last."""
    for job in jobs(data, fold):
        assert job.path is not None
        pixels = Photo.open(job.path).pixels
        yield look(predictor, job, "as it is", pixels)
        rng = np.random.default_rng(int(hashlib.sha256(job.key.encode()).hexdigest()[:8], 16))
        for kind, spoil in (TESTED if job.spoil else {}).items():
            yield look(predictor, job, kind, spoil(pixels, rng))
    for seed in range(DRAWN):
        style = list(STYLES.values())[seed % len(STYLES)]
        job = Job("drawn eyes", f"drawn {seed}", f"drawn {seed}", -1, -1, None)
        yield look(predictor, job, "as it is", draw_eye(seed, width_px=800, style=style).pixels)
    for families in (papers.FAMILIES, rounds.FAMILIES, medical.FAMILIES):
        for family, draws in families.items():
            for seed in range(OTHERS_EACH):
                job = Job("other pictures", f"{family} {seed}", f"{family} {seed}", -1, -1, None)
                yield look(predictor, job, "as it is", draws[seed % len(draws)](np.random.default_rng(seed)))


def shipped_tests() -> str:
    """A hash of the files that decide which photo is refused."""
    models = resources.files("funduscope") / "models"
    files = [(models / name).read_bytes() for name in ("fundus.json", "gradability.json")]
    return hashlib.sha256(b"".join(files)).hexdigest()


def keep(file: Path, rows: list[Seen], made_of: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    names = ("dataset", "key", "visit", "fold", "kind", "grade", "score", "refused")
    words = json.dumps([made_of, [[getattr(row, name) for name in names] for row in rows]])
    probs, features = (np.stack([getattr(row, name) for row in rows]) for name in ("probs", "features"))
    np.savez_compressed(file, probs=probs, features=features.astype(np.float16), words=np.array(words))


def kept(file: Path, made_of: str) -> list[Seen]:
    """What is in the cache; nothing if something else made it."""
    if not file.is_file():
        return []
    held = np.load(file, allow_pickle=False)
    of, words = json.loads(str(held["words"]))
    arrays = zip(held["probs"], held["features"].astype(np.float32), strict=True)
    return (
        [Seen(*word, probs=probs, features=own) for word, (probs, own) in zip(words, arrays, strict=True)]
        if of == made_of
        else []
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/trust.npz"))
    given = parser.parse_args()
    cv2.setNumThreads(1)
    predictor: Any = load(given.model)
    card = predictor.card
    must_have_kept(card, given.fold)
    predictor = for_photo_tasks(predictor)
    made_of = f"{predictor.runtime.sha256} {shipped_tests()} fold {given.fold} of {given.data.resolve()}"
    rows = kept(given.cache, made_of) or list(looks(predictor, given.data, given.fold))
    keep(given.cache, rows, made_of)
    print(f"Model `{predictor.runtime.sha256[:16]}`, test fold {given.fold}.\n")
    for part in (conformal_tables, refusing_tables, distance_table):
        print("\n".join(part(rows, card, given.fold)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
