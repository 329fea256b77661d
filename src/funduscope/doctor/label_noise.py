"""Label noise: photos whose labels contradict models that never learned from them.

Each run predicts the photos of its own test fold alone: run.json names the fold, the run's folds.csv its photos.
`confident_learning` finds the labels that the predictions contradict; a sheet shows their photos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from funduscope.data.case import Case
from funduscope.data.folds import read_folds
from funduscope.data.splits import SplitPlan
from funduscope.doctor.confident_learning import Doubt, confident_joint, doubts
from funduscope.doctor.finding import Finding, Picture, found
from funduscope.doctor.scan import Scan
from funduscope.progress import Progress, no_progress
from funduscope.vocabulary import CLASSES, DME_RISKS, FURTHER_TASKS

if TYPE_CHECKING:
    from funduscope.duplicates.pairs import DuplicatePair
    from funduscope.inference.model import Model

TASKS: Final = (
    {"grade": "grade", "dme": "edema risk", "maculopathy": "maculopathy", "edema": "macular edema"}
    | {task.name: task.title for task in FURTHER_TASKS}
)  # fmt: skip
_LOWEST: Final = {"maculopathy": 1, "edema": 2}
"""For labels of yes or no: the lowest edema risk that means yes."""

MIN_PHOTOS: Final = 30
"""Photos of a data set that must be predicted before its labels are judged."""

MOST: Final = 100
"""Doubtful labels of a task and a data set that get a finding each."""

_TILE_PX, _ACROSS, _DOWN = 168, 6, 4
_SHEETS: Final = 2


@dataclass(frozen=True, eq=False)
class FoldModel:
    """A loaded run: its folder, and the fold that it did not learn from."""

    run: Path
    fold: int
    model: Model


def load_models(runs: Sequence[Path]) -> list[FoldModel]:
    """Loads runs that left a fold out, and checks their files, so that a caller can stop before the long scan.

    Raises `ModelError` if a run has no test fold or cannot be loaded, `LabelError` if its folds.csv cannot be
    read.
    """
    from funduscope.evaluation.out_of_fold import held_out_fold
    from funduscope.inference.loading import load

    folds = [held_out_fold(run) for run in runs]
    for run in runs:
        if (run / "folds.csv").is_file():
            read_folds(run / "folds.csv")
    return [FoldModel(run, fold, load(run)) for run, fold in zip(runs, folds, strict=True)]


def examine(
    scan: Scan,
    cases: Sequence[Case],
    models: Sequence[FoldModel],
    pairs: Iterable[DuplicatePair] = (),
    progress: Progress = no_progress,
) -> Iterator[Finding]:
    """Findings about grade, edema risk, maculopathy, macular edema and the further photo tasks.

    pairs: by the photos' names; a photo with a duplicate in another fold is left out, since the model learned from it.
    Where too few labels are predicted to judge them, a finding says so.
    """
    if not models:
        return
    answers = predict_unseen(models, cases, _duplicates(scan, cases, pairs), progress)
    if not any(_label(case, task) is not None for case in cases for task in TASKS):
        says = f"The models judged nothing: no reader takes a label ({', '.join(TASKS.values())}) of the photos here."
        yield found("labels_unjudged", ["."], says, {"photos": len(scan), "labels": 0, "judged": 0})
    for task, words in TASKS.items():
        by_set: dict[str, list[tuple[Case, int, np.ndarray | None]]] = defaultdict(list)
        for case in cases:
            label = _label(case, task)
            if label is not None:
                by_set[case.dataset].append((case, label, _probs(task, answers.get(case.key, {}))))
        for dataset, labels in by_set.items():
            judged = [(case, label, probs) for case, label, probs in labels if probs is not None]
            if len(judged) >= MIN_PHOTOS:
                yield from _of_task(scan, dataset, words, judged)
                continue
            # Without this finding it would look as if nothing were wrong with the labels.
            says = f"The models judged {len(judged)} of {len(labels)} labels ({words}) of {dataset}; "
            says += f"fewer than {MIN_PHOTOS} show nothing."
            evidence = {"task": words, "data_set": dataset, "labels": len(labels), "judged": len(judged)}
            yield found("labels_unjudged", ["."], says, evidence)


def predict_unseen(
    models: Sequence[FoldModel],
    cases: Sequence[Case],
    duplicates: Mapping[str, set[str]],
    progress: Progress = no_progress,
) -> dict[str, dict[str, np.ndarray]]:
    """Case key to mean probabilities (by photo task) of the models that did not learn from the case.

    What a run's first weights or teachers may have learned is left out, too. duplicates: case key to keys of other
    photos of the same eye; a photo is left out where one is in another fold.
    """
    from funduscope.evaluation.out_of_fold import EARLIER, may_know
    from funduscope.i18n.errors import PhotoError

    answers: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for one in models:
        plan = SplitPlan.of(cases, one.fold, one.run)
        fold_of = {case.key: case.fold for case in plan.cases}
        earlier = one.model.card.about.get(EARLIER) or ()
        unseen = [case for case in plan.test if not any(may_know(taught, case) for taught in earlier)]
        unseen = [case for case in unseen if _has_labels(case)]
        unseen = [case for case in unseen if all(fold_of.get(key) == one.fold for key in duplicates.get(case.key, ()))]
        for case in progress(unseen, f"Predicting with {one.run.name}", len(unseen)):
            try:
                findings = one.model(case.path)
            except PhotoError:  # the photo has a finding of its own
                continue
            for name, probs in findings.class_probs.items():
                answers[case.key][name].append(np.asarray(probs, np.float64))
    return {key: {name: np.mean(each, axis=0) for name, each in of_case.items()} for key, of_case in answers.items()}


def _has_labels(case: Case) -> bool:
    return any(case.labels.known_classes(task) is not None for task in CLASSES)


def _duplicates(scan: Scan, cases: Sequence[Case], pairs: Iterable[DuplicatePair]) -> dict[str, set[str]]:
    """Case key to the keys of its pairs."""
    keys = {scan.relative(case.path): case.key for case in cases}
    duplicates: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        one, other = keys.get(pair.first), keys.get(pair.second)
        if one and other:
            duplicates[one].add(other)
            duplicates[other].add(one)
    return duplicates


def _label(case: Case, task: str) -> int | None:
    """A case's label in a task; None if it is not known."""
    labels = case.labels
    if task not in _LOWEST:
        return labels.class_of(task)
    no, yes = frozenset(range(_LOWEST[task])), frozenset(range(_LOWEST[task], len(DME_RISKS)))
    known = labels.known_classes("dme")
    return int(known == yes) if known in (yes, no) else None


def _probs(task: str, answers: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """(K,) probabilities of a task's classes; None if no model predicted them."""
    probs = answers.get("dme" if task in _LOWEST else task)
    if probs is None or task not in _LOWEST:
        return probs
    return np.array([probs[: _LOWEST[task]].sum(), probs[_LOWEST[task] :].sum()])


def _of_task(scan: Scan, dataset: str, words: str, judged: Sequence[tuple[Case, int, np.ndarray]]) -> Iterator[Finding]:
    """One finding with the sheet and the estimated share of wrong labels, and one for each doubtful label."""
    labels, probs = np.array([label for _, label, _ in judged]), np.stack([each for _, _, each in judged])
    ranked = doubts(labels, probs)
    if not ranked:
        return
    joint = confident_joint(labels, probs)
    share = float(1 - np.trace(joint))
    names = [scan.relative(judged[one.index][0].path) for one in ranked]
    says = f"The models doubt {len(ranked)} of {len(judged)} labels ({words}) of {dataset}. "
    says += f"Wrong labels and wrong predictions together are about {share:.0%}."
    evidence: dict[str, Any] = {
        "task": words,
        "data_set": dataset,
        "photos": len(judged),
        "doubtful": len(ranked),
        "estimated_share": round(share, 3),
        "labeled_and_true": np.round(joint, 4).tolist(),
    }
    rows, page = list(zip(names, ranked, strict=True)), _ACROSS * _DOWN
    sheets = [
        Picture(
            f"Label > prediction (probability of the label); {start + 1} to {min(start + page, len(rows))}.",
            partial(_sheet, scan, rows[start : start + page]),
        )
        for start in range(0, min(len(rows), _SHEETS * page), page)
    ]
    yield found("label_noise", names[: _SHEETS * page], says, evidence, pictures=sheets)
    for rank, (name, one) in enumerate(rows[:MOST], start=1):
        says = f"Labeled {words} {one.label}; models that never saw it predict {one.suggested} "
        says += f"({one.suggested_confidence:.0%}) and give the label {one.self_confidence:.0%}."
        evidence = {
            "task": words,
            "rank": rank,
            "label": one.label,
            "suggested": one.suggested,
            "probability_of_label": round(one.self_confidence, 4),
            "probabilities": [round(float(p), 4) for p in probs[one.index]],
        }
        yield found("doubtful_label", [name], says, evidence)


def _sheet(scan: Scan, rows: Sequence[tuple[str, Doubt]]) -> np.ndarray:
    """Thumbnails in rows, the most doubtful first, (H, W, 3) uint8 RGB."""
    down = -(-len(rows) // _ACROSS)
    sheet = np.zeros((down * _TILE_PX, _ACROSS * _TILE_PX, 3), np.uint8)
    for place, (name, one) in enumerate(rows):
        top, left = place // _ACROSS * _TILE_PX, place % _ACROSS * _TILE_PX
        tile = sheet[top : top + _TILE_PX, left : left + _TILE_PX]
        thumbnail = scan.thumbnail(name)
        picture = None if thumbnail is None else cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_COLOR)
        if picture is not None:
            scale = (_TILE_PX - 20) / max(picture.shape[:2])
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[..., ::-1]
            tile[: small.shape[0], : small.shape[1]] = small
        text = f"{one.label} > {one.suggested} ({one.self_confidence:.2f}) {Path(name).stem}"
        cv2.putText(tile, text[:28], (2, _TILE_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (255, 255, 255), 1, cv2.LINE_AA)
    return sheet
