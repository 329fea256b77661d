"""Writes the results of one photo: findings.json, masks, overlay and report, all of them or none."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from funduscope.atomic import replacing, set_mode
from funduscope.imaging.find_photos import RESULT, listed_results, results_in
from funduscope.imaging.photo_names import has_hash, safe_stem
from funduscope.report.heatmap import exact_map_pictures
from funduscope.report.html import report
from funduscope.report.image_files import mask_tiff, png, write_png
from funduscope.report.outline import ExtraOutputs, Outline, Palette, Traced, trace
from funduscope.report.overlay import WIDTH_PX, overlay

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

# Files that desktops create in every folder that is opened; they are nobody's work and appear again.
_DESKTOP = re.compile(r"\.DS_Store|\._.+|(eh)?thumbs\.db|desktop\.ini|\.directory", re.IGNORECASE | re.DOTALL)


def save(
    findings: Findings,
    folder: str | os.PathLike[str],
    *,
    palette: Palette = "standard",
    probabilities: bool = False,
    full_size: bool = False,
    explain: bool = False,
    language: str = "en",
    extra_outputs: ExtraOutputs | None = None,
) -> Path:
    """Writes the results of one photo into `folder` and returns it.

    findings.json, overlay.png and report.html always; `{photo}_{structure}.tif` (uint8, 0 or 255, the photo's own size)
    for every structure if the photo is gradable, and with `probabilities` also `{photo}_{structure}_prob.png`
    (probability times 255, rounded). `full_size`: the overlay as wide as the photo. `explain`: also
    explanation_referable.png and explanation_edema.png, if the model has such maps. `language`: of the report, one of
    `languages.LANGUAGES`. `extra_outputs`: called with the findings, their outlines, the folder and how names of
    files begin, to add more files (`pdf_outputs.py`).

    The folder appears complete or not at all, and replaces an earlier result of that name; who may open that may open
    the new one. Raises `FileExistsError` if it is the current folder or has files that this function did not write (a
    desktop's own, such as .DS_Store, are removed with the earlier result), `OSError` if the disk refuses, `ValueError`
    for an unknown palette or findings with NaN.
    """
    folder = Path(os.path.realpath(folder))
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as unfinished:
        _make_like(unfinished, folder)
        found = findings.to_dict()
        (unfinished / RESULT).write_bytes(to_json(found))
        stem = _stem(findings, folder.name)
        outlines = _write_masks(findings, unfinished, stem, probabilities)
        traced = Traced(found, outlines)
        picture = overlay(findings, palette=palette, width_px=None if full_size else WIDTH_PX, traced=traced)
        write_png(picture, unfinished / "overlay.png")
        for target, picture in exact_map_pictures(findings).items() if explain else ():
            write_png(picture, unfinished / f"explanation_{target}.png")
        page = report(findings, palette=palette, traced=traced, language=language)
        (unfinished / "report.html").write_bytes(page.encode("utf-8", "replace"))
        if extra_outputs is not None:
            extra_outputs(findings, traced, unfinished, stem)
    return folder


def _make_like(unfinished: Path, folder: Path) -> None:
    """Makes a folder that the same people may open as the one that it will replace, where there is one."""
    mode = stat.S_IMODE(folder.stat().st_mode) if folder.exists() else 0o777
    unfinished.mkdir(mode)
    if folder.exists():
        set_mode(unfinished, mode)


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


def zipped(findings: Findings) -> bytes:
    """findings.json, overlay.png and the masks of one photo, as `save` writes them, in a zip file.

    Made in memory: nothing of the photo gets onto a disk. The same findings give the same bytes.
    """
    found, stem, outlines, content = findings.to_dict(), _stem(findings, ""), {}, io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:

        def add(name: str, data: bytes) -> None:
            packing = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), data, packing)

        add(RESULT, to_json(found))
        for code in findings.codes if findings.gradable_ok else ():
            mask = _mask(findings, code)
            outlines[code] = trace(mask)
            add(f"{stem}_{code}.tif", mask_tiff(mask))
        drawn = overlay(findings, palette="standard", width_px=WIDTH_PX, traced=Traced(found, outlines))
        add("overlay.png", png(drawn))
    return content.getvalue()


def _mask(findings: Findings, code: str) -> np.ndarray:
    return np.ascontiguousarray(findings.mask(code), dtype=bool)


def _write_masks(findings: Findings, folder: Path, stem: str, probabilities: bool) -> dict[str, Outline]:
    """Writes the structures one by one, with one mask in memory at a time, and returns their outlines."""
    outlines: dict[str, Outline] = {}
    for code in findings.codes if findings.gradable_ok else ():
        mask = _mask(findings, code)
        outlines[code] = trace(mask)
        (folder / f"{stem}_{code}.tif").write_bytes(mask_tiff(mask))
        if probabilities:
            chances = cv2.convertScaleAbs(findings.probability(code), alpha=255)
            write_png(chances, folder / f"{stem}_{code}_prob.png")
    return outlines


def _stem(findings: Findings, folder: str) -> str:
    """How files of a photo's results begin: with the photo's name.

    folder: the name of their folder, which is used where it ends with a hash because of a photo of the same name.
    """
    stem = safe_stem(findings.photo.name, set(), "")
    return folder if has_hash(folder, stem) else stem


def is_result(folder: Path) -> bool:
    """Whether a folder holds a photo's results and nothing else."""
    return (folder / RESULT).is_file() and not _foreign(folder)


def _foreign(folder: Path) -> list[str]:
    """The names of what is no photo's results in a folder."""
    entries = [entry for entry in folder.iterdir() if entry.is_dir() or not _DESKTOP.fullmatch(entry.name)]
    listed, is_ours = listed_results(folder), results_in(folder)
    foreign = [entry.name for entry in entries if entry.is_dir() or not is_ours(entry.name)]
    # A patient's own right and left eye may be named like masks (x_OD.tif): without a list only findings.json makes
    # them results.
    if not foreign and listed is None and not (folder / RESULT).is_file():
        foreign = [entry.name for entry in entries]
    return foreign


def _check_place(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, and results need a folder: choose another name.")
    if folder.samefile(os.curdir):
        raise FileExistsError(f"{folder} is the current folder, which results would replace: name a folder in it.")
    if foreign := _foreign(folder):
        raise FileExistsError(
            f"{folder} contains {foreign[0]!r}, not an earlier result, which would be lost: choose another folder."
        )
