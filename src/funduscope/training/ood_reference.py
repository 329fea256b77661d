"""The reference for out-of-distribution scores: features of the training photos, percentiles by held-out photos.

See `inference/ood.py`. A refit on every photo has none to hold out: it takes the percentiles of the run that its card
came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from funduscope.data.case import Case
from funduscope.duplicates.search import Progress
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo, PhotoError
from funduscope.inference.ood import Reference, fit_reference
from funduscope.inference.predictor import Predictor
from funduscope.quality.assessment import not_gradable

MOST_PHOTOS: Final = 800
"""So many training photos are looked at, spread evenly: more change nothing but the time it takes."""


def fit_distance(
    predictor: Predictor,
    training: list[Case],
    held_out: list[Case],
    progress: Progress = lambda items, words, total: items,
) -> dict[str, Any] | None:
    """The card's `distance`; None where the model gives no features or there are too few photos.

    training, held_out: cases of the same clinics. predictor: its card may have the `distance` of a run by the same
    procedure, whose percentiles are kept where no photos were held out.
    """
    chosen = training[:: max(1, -(-len(training) // MOST_PHOTOS))]
    words, count = "Measuring distances", len(chosen) + len(held_out)
    rows = list(features_of(predictor, progress([*chosen, *held_out], words, count)))
    of_training = [row for row in rows[: len(chosen)] if row is not None]
    of_held_out = [row for row in rows[len(chosen) :] if row is not None]
    if not of_training:
        return None
    known = predictor.card.distance
    like = Reference.from_tree(known) if known is not None and not held_out else None
    fitted = fit_reference(np.stack(of_training), np.stack(of_held_out) if of_held_out else None, like)
    return None if fitted is None else fitted.to_tree()


def features_of(predictor: Predictor, cases: Iterable[Case]) -> Iterable[np.ndarray | None]:
    """A row (C,) a case, by the whole view alone; None for a photo that is refused or a model that gives none."""
    plain = predictor.without_structures()
    for case in cases:
        try:
            photo = Photo.open(case.path)
        except PhotoError:
            yield None
            continue
        framed = frame(photo, plain.card.close_px)
        features = None if not_gradable(framed) else plain.run(photo, framed)[1].whole.features
        yield None if features is None else features[0]
