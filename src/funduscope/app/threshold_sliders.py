"""What the browser needs to redraw a threshold by itself while it is moved: probabilities as pictures, and their place.

Eight bits are enough to look at; the outlines that stay are drawn of the probabilities themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np

from funduscope.app.corrections import Corrections
from funduscope.inference.findings import Findings

LOWEST, HIGHEST = 0.01, 0.99
_DIGITS: Final = 2


def planes(findings: Findings) -> dict[str, bytes]:
    """Each structure's probabilities over the frame as a grey PNG, 255 for 1; none of a photo without a grade."""
    codes = findings.codes if findings.gradable_ok else ()
    return {code: _png(findings.frame_probs[code]) for code in codes}


def thresholds(findings: Findings, moved: Mapping[str, float], corrections: Corrections) -> list[dict[str, Any]]:
    """A row a slider: its value, the model's own, and whether a person's corrected or confirmed outlines hold it."""
    codes = findings.codes if findings.gradable_ok else ()
    return [
        {
            "code": code,
            "value": moved.get(code, own(findings, code)),
            "own": own(findings, code),
            "held": code in corrections.masks,
        }
        for code in codes
    ]


def own(findings: Findings, code: str) -> float:
    """The model's own threshold as a slider shows it."""
    return min(HIGHEST, max(LOWEST, round(float(findings.card.thresholds[code]), _DIGITS)))


def with_moved(
    findings: Findings, moved: Mapping[str, float], edit: Mapping[str, Any], corrections: Corrections
) -> dict[str, float]:
    """The thresholds after a slider was moved. What comes from a browser is checked; nonsense changes nothing.

    A slider at the model's own value is none: then the model's exact number counts.
    """
    code, value = edit.get("code"), edit.get("value")
    after = dict(moved)
    if not isinstance(code, str) or code not in findings.codes or code in corrections.masks:
        return after
    if not isinstance(value, int | float) or not np.isfinite(value):
        return after
    if not LOWEST <= round(value, _DIGITS) <= HIGHEST:
        return after
    after.pop(code, None)
    if round(value, _DIGITS) != own(findings, code):
        after[code] = round(float(value), _DIGITS)
    return after


def _png(plane: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", cv2.convertScaleAbs(plane, alpha=255), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return data.tobytes()
