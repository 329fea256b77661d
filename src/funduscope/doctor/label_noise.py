"""Label noise: photos whose labels are contradicted most by models that never learned from them.

Each run judges the photos of its own test fold alone (run.json names it, the run's folds.csv says which they are);
what its answers contradict with confidence is found by `confident` and laid out as a sheet to look through.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from funduscope.doctor.scan import Progress, Scan
from funduscope.vocabulary import DME_RISKS

if TYPE_CHECKING:
    from funduscope.duplicates.pairs import DuplicatePair
    from funduscope.inference.ensemble import Ensemble
    from funduscope.inference.predictor import Predictor

TASKS: Final = {"grade": "grade", "dme": "edema risk", "maculopathy": "maculopathy", "edema": "macular edema"}
_LOWEST: Final = {"maculopathy": 1, "edema": 2}
"""Of questions that a data set answers by yes or no: the lowest edema risk that is a yes."""

FEWEST_PHOTOS: Final = 30
"""Photos of a data set that have to be judged before anything is said of its labels."""

MOST: Final = 100
"""Doubtful labels of a task and a data set that are told one by one."""

_TILE_PX, _ACROSS, _DOWN = 168, 6, 4
_SHEETS: Final = 2


def examine(
    scan: Scan,
    cases: Sequence[Case],
    models: Sequence[Path],
    pairs: Iterable[DuplicatePair] = (),
    progress: Progress = lambda items, words, total: items,
) -> Iterator[Finding]:
    """Findings about grade, edema risk and maculopathy. models: run folders of trainings that left a fold alone.

    pairs: pairs by the photos' names; a photo whose twin is in another fold was as good as seen, and is left out.
    Where too few labels are judged to say anything of them, that is told. Raises what `check` raises.
    """
    if not models:
        return
    answers = judge(models, cases, _leaky(scan, cases, pairs), progress)
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
            held = [(case, label, probs) for case, label, probs in labels if probs is not None]
            if len(held) >= FEWEST_PHOTOS:
                yield from _of_task(scan, dataset, words, held)
            else:
                yield _unjudged(dataset, words, len(labels), len(held))


def check(models: Sequence[Path]) -> None:
    """Refuses models that cannot judge, so that a caller can stop before minutes are spent on the rest.

    Raises `ModelError` where a model is no run with a test fold or cannot be loaded, `LabelError` where its folds.csv
    cannot be read.
    """
    from funduscope.evaluation.out_of_fold import held_out_fold
    from funduscope.inference.loading import load

    for run in models:
        held_out_fold(run)
        if (run / "folds.csv").is_file():
            read_folds(run / "folds.csv")
    for run in models:
        load(run)


def judge(
    models: Sequence[Path],
    cases: Sequence[Case],
    leaky: Mapping[str, set[str]],
    progress: Progress = lambda items, words, total: items,
) -> dict[str, dict[str, np.ndarray]]:
    """Case key to the probabilities (by "grade" and "dme") of the runs that did not learn from it, their mean.

    leaky: case key to keys of its twins: a photo is left out where one is not in its own fold.
    """
    from funduscope.evaluation.out_of_fold import held_out_fold
    from funduscope.i18n.errors import PhotoError
    from funduscope.inference.loading import load

    told: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    folds = [held_out_fold(run) for run in models]
    for run, fold in zip(models, folds, strict=True):
        plan = SplitPlan.of(cases, fold, run)
        place = {case.key: case.fold for case in plan.cases}
        unseen = [case for case in plan.test if _has_labels(case)]
        unseen = [case for case in unseen if all(place.get(key) == fold for key in leaky.get(case.key, ()))]
        model: Predictor | Ensemble = load(run)
        for case in progress(unseen, f"Judging by {run.name}", len(unseen)):
            try:
                findings = model(case.path)
            except PhotoError:  # the photograph's own finding says so
                continue
            for name, probs in (("grade", findings.grade_probs), ("dme", findings.dme_probs)):
                if probs is not None:
                    told[case.key][name].append(np.asarray(probs, np.float64))
    return {key: {name: np.mean(each, axis=0) for name, each in held.items()} for key, held in told.items()}


def _has_labels(case: Case) -> bool:
    return any(value is not None for value in (case.labels.grade, case.labels.dme, case.labels.dme_among))


def _leaky(scan: Scan, cases: Sequence[Case], pairs: Iterable[DuplicatePair]) -> dict[str, set[str]]:
    keys = {scan.relative(case.path): case.key for case in cases}
    held: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        one, other = keys.get(pair.first), keys.get(pair.second)
        if one and other:
            held[one].add(other)
            held[other].add(one)
    return held


def _label(case: Case, task: str) -> int | None:
    """A case's label in a task, None where it is not known."""
    labels = case.labels
    if task not in _LOWEST:
        return labels.grade if task == "grade" else labels.dme
    among, yes = labels.dme_among, frozenset(range(_LOWEST[task], len(DME_RISKS)))
    no = frozenset(range(_LOWEST[task]))
    return None if labels.dme is not None or among not in (yes, no) else int(among == yes)


def _probs(task: str, answers: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The probabilities of a task's classes, None where no model answered."""
    held = answers.get("grade" if task == "grade" else "dme")
    if held is None or task not in _LOWEST:
        return held
    return np.array([held[: _LOWEST[task]].sum(), held[_LOWEST[task] :].sum()])


def _unjudged(dataset: str, words: str, labels: int, judged: int) -> Finding:
    """That nothing can be said of a data set's labels: else it would look as if nothing were wrong with them."""
    says = f"The models judged {judged} of {labels} labels ({words}) of {dataset}; under {FEWEST_PHOTOS} tell nothing."
    return found(
        "labels_unjudged", ["."], says, {"task": words, "data_set": dataset, "labels": labels, "judged": judged}
    )


def _of_task(scan: Scan, dataset: str, words: str, held: Sequence[tuple[Case, int, np.ndarray]]) -> Iterator[Finding]:
    """One finding with the sheet and the estimate, and one for each doubtful label."""
    labels, probs = np.array([label for _, label, _ in held]), np.stack([each for _, _, each in held])
    ranked = doubts(labels, probs)
    if not ranked:
        return
    joint = confident_joint(labels, probs)
    share = float(1 - np.trace(joint))
    names = [scan.relative(held[one.index][0].path) for one in ranked]
    says = (
        f"The models doubt {len(ranked)} of {len(held)} labels ({words}) of {dataset}. Wrong labels and wrong answers "
    )
    says += f"together are about {share:.0%}."
    evidence: dict[str, Any] = {
        "task": words,
        "data_set": dataset,
        "photos": len(held),
        "doubtful": len(ranked),
        "estimated_share": round(share, 3),
        "labelled_and_true": np.round(joint, 4).tolist(),
    }
    page, sheets = _ACROSS * _DOWN, []
    for start in range(0, min(len(ranked), _SHEETS * page), page):
        rows = list(zip(names, ranked, strict=True))[start : start + page]
        caption = f"Label > what the models say (probability of the label); {start + 1} to {start + len(rows)}."
        sheets.append(Picture(caption, partial(_sheet, scan, rows)))
    yield found("label_noise", names[: _SHEETS * page], says, evidence, pictures=sheets)
    for rank, (name, one) in enumerate(zip(names[:MOST], ranked, strict=False), start=1):
        yield _doubtful(name, words, rank, one, probs[one.index])


def _doubtful(name: str, words: str, rank: int, one: Doubt, probs: np.ndarray) -> Finding:
    says = (
        f"Labelled {words} {one.label}; models that never saw it say {one.suggested} ({one.suggested_confidence:.0%})"
    )
    evidence = {
        "task": words,
        "rank": rank,
        "label": one.label,
        "suggested": one.suggested,
        "probability_of_label": round(one.self_confidence, 4),
        "probabilities": [round(float(p), 4) for p in probs],
    }
    return found("doubtful_label", [name], f"{says} and give the label {one.self_confidence:.0%}.", evidence)


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
