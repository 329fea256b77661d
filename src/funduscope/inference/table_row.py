"""The findings of a photo as one row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funduscope.vocabulary import DME_RISKS, GRADES

_OF_LESION = ("count", "area_px", "area_dd2", "nearest_fovea_dd")


def table_row(found: Mapping[str, Any], lesions: Sequence[str]) -> dict[str, str | int | float | bool | None]:
    """One row of a table, with equal columns for all photos of a model; None if there is no answer.

    found: as in findings.json. lesions: the structures that have columns. p0 to p4: probabilities of the grades, dme_p0
    to dme_p2: of the edema risks. Units are in the names: _px, in the photo's pixels; _dd, _dd2 in disc diameters and
    their squares. Photos without an answer to grade keep their row.
    """
    photo, gradable = found["photo"], found["gradable"]
    outlined, points, dme = found["lesions"] or {}, found["landmarks"] or {}, found["dme"] or {}
    referable, advice = found["referable"] or {}, found["advice"] or {}
    row = {"photo": photo["name"], "width_px": photo["width"], "height_px": photo["height"]}
    row |= {"gradable": gradable["ok"], "gradable_score": gradable["score"], "advice": gradable["advice"]}
    row |= {"grade": found["predicted_grade"], "confidence": found["confidence"]}
    row |= {f"p{grade}": _at(found["probabilities"], grade) for grade in range(len(GRADES))}
    row |= {"referable": referable.get("value"), "referable_probability": referable.get("probability")}
    row |= {"refer": advice.get("refer"), "urgency": advice.get("urgency")}
    row |= {"dme": dme.get("risk"), "dme_confidence": dme.get("confidence")}
    row |= {f"dme_p{risk}": _at(dme.get("probabilities"), risk) for risk in range(len(DME_RISKS))}
    for code in lesions:
        row |= {f"{code}_{name}": outlined.get(code, {}).get(name) for name in _OF_LESION}
    disc, fovea = points.get("optic_disc") or {}, points.get("fovea") or {}
    row |= {"disc_x_px": disc.get("x_px"), "disc_y_px": disc.get("y_px"), "disc_diameter_px": disc.get("diameter_px")}
    row |= {"fovea_x_px": fovea.get("x_px"), "fovea_y_px": fovea.get("y_px"), "laterality": found["laterality"]}
    return row | {"training_percentile": (found["training_distance"] or {}).get("percentile")}


def _at(values: Sequence[float] | None, index: int) -> float | None:
    return None if values is None else values[index]
