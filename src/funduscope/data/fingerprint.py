"""A hash of photos and their labels, which tells whether data are the same as before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from funduscope.data.case import Case
from funduscope.data.prepare import content_of
from funduscope.vocabulary import FURTHER_TASKS


def fingerprint(cases: Sequence[Case]) -> str:
    """A hash of every photo's bytes and every label, in order of key. The same data has the same fingerprint."""
    digest = hashlib.sha256()
    for case in sorted(cases, key=lambda case: case.key):
        labels = case.labels
        plain = (
            labels.grade,
            labels.dme,
            labels.possible_classes("dme"),
            labels.quality,
            labels.disc_xy,
            labels.fovea_xy,
        )
        further = [
            (labels.class_of(task.name), labels.possible_classes(task.name), task.name) for task in FURTHER_TASKS
        ]
        further += [(among, "grade")] if (among := labels.possible_classes("grade")) else []
        digest.update(repr((case.key, case.visit, case.fold, plain, *further)).encode())
        drawn = (sorted(labels.experts.items()), sorted(labels.boxes.items()), labels.laterality)
        digest.update(repr(drawn).encode())
        masks = sorted((labels.masks | ({"negatives": labels.negatives} if labels.negatives else {})).items())
        files = [(code, path) for code, mask in masks for path in mask.paths or (None,)]
        for name, path in [("photo", case.path), *files, *sorted(labels.votes.items())]:
            digest.update(name.encode() + (content_of(path) if path else b"absent"))
        unlike = [(code, mask.empty) for code, mask in masks if mask.empty != "error"]
        digest.update(repr(unlike).encode() if unlike else b"")
    return digest.hexdigest()
