"""Writes the results of one photo: findings.json, masks, overlay and report, all of them or none."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from funduscope.atomic import replacing
from funduscope.report.heatmap import pictures
from funduscope.report.html import report
from funduscope.report.naming import safe_stem
from funduscope.report.outline import Outline, Palette, Traced, trace
from funduscope.report.overlay import WIDTH_PX, overlay

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

_OURS = re.compile(
    r"findings\.json|overlay\.png|(report|sheet)\.(html|pdf)|explanation_[a-z]+\.png|.+_[A-Z]{2,}(\.tif|_prob\.png)",
    re.DOTALL,
)
# Files that desktops create in every folder that is opened; they are nobody's work and appear again.
_DESKTOP = re.compile(r"\.DS_Store|\._.+|(eh)?thumbs\.db|desktop\.ini|\.directory", re.IGNORECASE | re.DOTALL)


def save(
    findings: Findings,
    folder: Path,
    *,
    palette: Palette = "standard",
    probabilities: bool = False,
    full_size: bool = False,
    explain: bool = False,
    language: str = "en",
    extra_outputs: Callable[[Findings, Traced, Path], None] | None = None,
) -> Path:
    """Writes the results of one photo into `folder` and returns it.

    findings.json, overlay.png and report.html always; `{photo}_{structure}.tif` (uint8, 0 or 255, the photo's own size)
    for every structure if the photo is gradable, and with `probabilities` also `{photo}_{structure}_prob.png`
    (probability times 255, rounded). `full_size`: the overlay as wide as the photo. `explain`: also
    explanation_referable.png and explanation_edema.png, if the model has such maps. `language`: of the report, one of
    `languages.LANGUAGES`. `extra_outputs`: called with the findings, their outlines and the folder to add more files
    (`pdf_outputs.py`).

    The folder appears complete or not at all, and replaces an earlier result of that name. Raises `FileExistsError` if
    the folder has files that this function did not write (a desktop's own, such as .DS_Store, are removed with the
    earlier result), `OSError` where the disk refuses, `ValueError` for an unknown palette or findings with NaN.
    """
    folder = Path(os.path.realpath(folder))
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        found = findings.to_dict()
        (unfinished / "findings.json").write_bytes(to_json(found))
        outlines = _write_masks(findings, unfinished, _stem(findings, folder), probabilities)
        traced = Traced(found, outlines)
        picture = overlay(findings, palette=palette, width_px=None if full_size else WIDTH_PX, traced=traced)
        Image.fromarray(picture).save(unfinished / "overlay.png", compress_level=1)
        for target, picture in pictures(findings).items() if explain else ():
            Image.fromarray(picture).save(unfinished / f"explanation_{target}.png", compress_level=1)
        page = report(findings, palette=palette, traced=traced, language=language)
        (unfinished / "report.html").write_bytes(page.encode("utf-8", "replace"))
        if extra_outputs is not None:
            extra_outputs(findings, traced, unfinished)
    return folder


def to_json(found: Mapping[str, Any]) -> bytes:
    """findings.json's bytes: UTF-8, the schema's order of keys, a newline at the end; `ValueError` for NaN."""
    known = [key for key in findings_schema()["properties"] if key in found]
    ordered = {key: found[key] for key in known} | dict(found)
    text = json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name that is not valid Unicode becomes JSON's own escapes, which read back as the same name.
    return text.encode("utf-8", "backslashreplace")


@cache
def findings_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every findings.json follows."""
    file = resources.files("funduscope").joinpath("report", "findings.schema.json")
    return json.loads(file.read_text(encoding="utf-8"))


def _write_masks(findings: Findings, folder: Path, stem: str, probabilities: bool) -> dict[str, Outline]:
    """Writes the structures one by one, with one mask in memory at a time, and returns their outlines."""
    outlines: dict[str, Outline] = {}
    for code in findings.codes if findings.gradable_ok else ():
        mask = np.ascontiguousarray(findings.mask(code), dtype=bool)
        outlines[code] = trace(mask)
        levels = mask.view(np.uint8) * np.uint8(255)
        Image.fromarray(levels).save(folder / f"{stem}_{code}.tif", compression="tiff_lzw")
        if probabilities:
            chances = cv2.convertScaleAbs(findings.probability(code), alpha=255)
            Image.fromarray(chances).save(folder / f"{stem}_{code}_prob.png", compress_level=1)
    return outlines


def _stem(findings: Findings, folder: Path) -> str:
    """The masks' stem: the photo's, or the folder's if that ends with a hash because of a photo of the same name."""
    stem = safe_stem(findings.photo.name, set(), "")
    return folder.name if folder.name.startswith(f"{stem}-") else stem


def _check_place(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, and results need a folder: choose another name.")
    entries = [entry for entry in folder.iterdir() if entry.is_dir() or not _DESKTOP.fullmatch(entry.name)]
    foreign = [entry.name for entry in entries if entry.is_dir() or not _OURS.fullmatch(entry.name)]
    # A patient's own right and left eye may be named like masks (x_OD.tif): only findings.json makes it a result.
    if not foreign and not (folder / "findings.json").is_file():
        foreign = [entry.name for entry in entries]
    if foreign:
        raise FileExistsError(
            f"{folder} contains {foreign[0]!r}, which is no earlier result and would be lost: choose another folder."
        )
