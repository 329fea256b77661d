"""How unsure the model is of a photo: which photos a person should look at, or label, first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def uncertainty(found: Mapping[str, Any]) -> float | None:
    """From 0, sure, to 1, of one photo; None if it has no grade. found: as in findings.json.

    The mean of what is known of: the spread of the grade's probabilities; whether what the photo and what its lesions
    say of the grade disagree, or the grade and what the outlined lesions support, where the model has no such
    witnesses; and how unlike the training photos it is.
    """
    if not found.get("probabilities"):
        return None
    distance = found.get("training_distance")
    parts = [entropy(found["probabilities"]), disagreement(found)]
    parts.append(None if distance is None else distance["percentile"] / 100)
    return combined(parts)


def combined(parts: Sequence[float | None]) -> float:
    """The mean of the parts that are known."""
    return float(np.mean([part for part in parts if part is not None]))


def entropy(probabilities: Sequence[float]) -> float:
    """Entropy of probabilities that sum to 1, as a share of the largest possible one."""
    probs = np.asarray(probabilities, np.float64)
    known = probs[probs > 0]
    return float(-(known * np.log(known)).sum() / np.log(len(probs)))


def disagreement(found: Mapping[str, Any]) -> float | None:
    """Between two opinions on the grade, from 0 to 1; None if there is one alone.

    Of two witnesses, half the sum of the differences of their probabilities. Otherwise 1 if the outlined lesions
    contradict the grade, 0 if they support it.
    """
    witnesses = found.get("witnesses") or {}
    if all("grade" in witnesses.get(name, ()) for name in ("photo", "lesions")):
        photo, lesions = (np.asarray(witnesses[name]["grade"]) for name in ("photo", "lesions"))
        return float(np.abs(photo - lesions).sum() / 2)
    agrees = (found.get("rules") or {}).get("agrees")
    return None if agrees is None else 1.0 - agrees
