"""report.html: the findings of one photo, as one file that needs no network and can be handed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from funduscope.i18n.languages import Words
from funduscope.inference.anatomy import QUADRANTS
from funduscope.inference.model_scores import UNKNOWN, figures_note, figures_table
from funduscope.report.html_frame import data_url, render
from funduscope.report.outline import Outline, Palette, Traced, hex_color_of, trace_all
from funduscope.report.overlay import shrunk
from funduscope.report.photo_jpegs import jpeg
from funduscope.vocabulary import DME_RISKS, FURTHER_TASKS, GRADES, LANDMARKS, REFERABLE_FROM, structure

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

PHOTO_WIDTH_PX: Final = 2048


def report(
    findings: Findings, *, palette: Palette = "standard", traced: Traced | None = None, language: str = "en"
) -> str:
    """The page, as text of one self-contained HTML file.

    `traced`: the findings' outlines if they are computed already. `language`: one of `languages.LANGUAGES`. Raises
    `ValueError` for an unknown palette or language.
    """
    traced = traced or trace_all(findings)
    found, outlines = traced.found, traced.outlines
    words, figures = Words(language), findings.card.about.get("figures", ())
    landmarks = dict.fromkeys(LANDMARKS) | (found.get("landmarks") or {})
    values = {
        "words": words,
        "found": found,
        "name": found["photo"]["name"],
        "width": found["photo"]["width"],
        "height": found["photo"]["height"],
        "picture": data_url("image/jpeg", jpeg(shrunk(findings.photo.pixels, PHOTO_WIDTH_PX), chroma="420")),
        "layers": [_layer(code, outlines[code], found, palette, words) for code in list(outlines)[::-1]],
        "landmarks": landmarks,
        "sought": [name for name in LANDMARKS if landmarks[name] or name in findings.card.located],
        "grades": [words(f"grade.{number}") for number in range(len(GRADES))],
        "risks": [words(f"dme.{number}") for number in range(len(DME_RISKS))],
        "tasks": further_answers(found, words),
        "evidence": evidence_table(found, words) if found["evidence"] else [],
        "figures": figures_table(figures, words),
        "figures_note": figures_note(figures, words),
        "limits": limits(found, words),
        "referable_from": REFERABLE_FROM,
        "mark_px": found["photo"]["width"] / 64,
        "view": _view(findings, found, words),
    }
    folder = "report/viewer"
    style, script = f"{folder}/viewer.css", f"{folder}/viewer.js"
    return render(f"{folder}/report.html.j2", values, style=style, script=script, language=language)


@dataclass(frozen=True)
class TaskAnswer:
    """What is shown of a further photo task: its name, those of its classes, their probabilities, the chosen one."""

    title: str
    names: list[str]
    probabilities: list[float]
    chosen: int


def further_answers(found: Mapping[str, Any], words: Words) -> list[TaskAnswer]:
    """The answers of the further photo tasks. found: as in findings.json."""
    tasks = found.get("tasks") or {}
    return [
        TaskAnswer(
            words.task(task),
            [words.photo_class(task, number) for number in range(len(task.classes))],
            tasks[task.name]["probabilities"],
            tasks[task.name]["class"],
        )
        for task in FURTHER_TASKS
        if task.name in tasks
    ]


def limits(found: Mapping[str, Any], words: Words) -> str:
    """A sentence on what the model does not see. found: as in findings.json.

    A model with a further photo task may look for a disease of the usual list, and one that outlines a lesion of the
    highest grade outlines new vessels.
    """
    parts = [words("paper.limits_named" if "tasks" in found else "paper.limits")]
    if all(structure(code).lowest_grade < len(GRADES) - 1 for code in found["lesions"] or ()):
        parts.append(words("paper.no_vessels"))
    return " ".join(parts)


def model_line(model: Mapping[str, Any], words: Words) -> str:
    """Which model answered. model: as in findings.json."""
    return words("model.line", {"name": model["name"], "version": model["version"], "sha": model["sha256"][:12]})


def evidence_table(found: Mapping[str, Any], words: Words) -> list[list[str]]:
    """The model's answers next to what the outlined lesions support: a header row, then a row an answer.

    found: as in findings.json, with `rules`.
    """
    rules, dme = found["rules"], found["dme"] or {}
    verdicts = {True: "evidence.agree", False: "evidence.disagree", None: "evidence.unchecked"}
    rows = [["", words("evidence.model"), words("evidence.lesions"), ""]]
    answers = (("grade", found["predicted_grade"], rules["agrees"]), ("dme", dme.get("risk"), rules["dme_agrees"]))
    ranges = (rules["grade_range"], rules["dme_range"])
    for (task, answer, agrees), (low, high) in zip(answers, (span or (None, None) for span in ranges), strict=True):
        if low is not None:
            model = UNKNOWN if answer is None else str(answer)
            supported = str(low) if low == high else words("evidence.range", {"low": low, "high": high})
            rows.append([words(f"{task}.title"), model, supported, words(verdicts[agrees])])
    return rows


def svg_path(rings: Iterable[np.ndarray]) -> str:
    """Rings as an SVG path in the photo's pixels; a single pixel becomes a dot, which a round pen draws."""
    pieces = []
    for ring in rings:
        # Half a pixel of tolerance makes the path a third as long and moves no edge visibly.
        points = cv2.approxPolyDP(ring, 0.5, True).reshape(-1, 2)
        steps = np.diff(points, axis=0).tolist()
        lines = "".join(f"l{x} {y}" for x, y in steps) if steps else "h0"
        pieces.append(f"M{points[0][0]} {points[0][1]}{lines}z")
    return "".join(pieces)


def _view(findings: Findings, found: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """What viewer.js needs for the details of lesions and for the ruler. found: as in findings.json.

    Every lesion is listed, also those that findings.json leaves out: a click on one that is not would show the
    numbers of its neighbor.
    """
    disc = (found["landmarks"] or {}).get("optic_disc") or {}
    return {
        "lesions": [
            {
                "id": f"{code}-{number}",
                "code": code,
                "x": lesion["x_px"],
                "y": lesion["y_px"],
                "area": lesion["area_px"],
                "fovea_dd": lesion["nearest_fovea_dd"],
                "quadrant": lesion["quadrant"],
                "probability": lesion["probability"],
            }
            for code in found["lesions"] or ()
            for number, lesion in enumerate(one.to_dict() for one in findings.objects(code))
        ],
        "disc_diameter_px": disc.get("diameter_px"),
        "language": words.language,
        "words": {
            "structures": {code: words.structure(code) for code in found["lesions"] or ()},
            "quadrants": {name: words(f"quadrant.{name}") for name in QUADRANTS},
            "columns": {name: words(f"lesions.{name}") for name in ("area", "fovea", "place", "probability")},
            "dd": words("photo.dd"),
            "scale": words.template("photo.scale"),
        },
    }


def _layer(code: str, outline: Outline, found: Mapping[str, Any], palette: Palette, words: Words) -> dict[str, Any]:
    item, meaning = structure(code), f"meaning.{code}"
    return {
        "code": code,
        "name": words.structure(code),
        "meaning": words(meaning) if words.has(meaning) else item.meaning,
        "color": hex_color_of(code, palette),
        "is_lesion": item.is_lesion,
        "path": svg_path(outline.rings),
        "lesion": (found.get("lesions") or {}).get(code),
    }
