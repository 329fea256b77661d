"""What is wrong with single photographs: damage, quality, crops, no fundus, text, and metadata that name a person.

Every limit was chosen on 2,005 real photos of seven sources (EyePACS's `reject` labels among them) and on drawn eyes,
so that it passes what ophthalmologists call good; its docstring says what good and bad photos measure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Final

from funduscope.doctor.finding import Finding, found
from funduscope.doctor.record import Record
from funduscope.quality.fundus import DARK_AND_FLAT, DARK_SHARE, FULL_SHARE, load_fundus_test

MIN_EYE_PX: Final = 200
"""Smallest field of view; the smallest real ones are 353 px. A microaneurysm is half a pixel wide below it."""

BLURRED_SHARPNESS: Final = (0.56, 0.58)
"""sharpness, sharp_lines below both: good photos have 0.62 and 0.60 or more; blurred by sigma 20 of 4288, 0.52."""

SMEARED: Final = 0.5
"""all_ways below this: 850 real photos have 0.60 or more; a movement by 0.03 of the width leaves 0.28 to 0.41."""

NO_VESSELS: Final = 0.045
"""vessels below this: good photos have 0.10 or more; a third of the photos below it is labeled reject, none good."""

NO_DETAIL: Final = 0.5
"""detail below this: good photos have 0.9 or more; of the seven real ones below it, four are labeled reject."""

DARK_BRIGHTNESS: Final = 42.0
"""brightness below this: good photos have 89 or more, dim but readable ones 43; a fifth of the light leaves 29."""

WASHED_SHARE: Final = 0.085
"""washed above this: a twelfth of the field is white; good photos have 0.06 at most."""

SEEN_SHARE: Final = 0.68
"""seen below this: cameras show 0.72 of the circle or more."""

CUT_ASYMMETRY: Final = 0.30
"""Opposite sides cut off by depths (in radii) that differ by more: cameras center the field within 0.2."""

HABIT: Final = 0.5
"""Above this share of a folder, a cut is how the folder was made, and is one finding."""

MAX_NAMED: Final = 20
"""Files of a folder whose metadata get a finding each; more have them from one program, and are one finding."""

GRAY_CHROMA: Final = 5.0
"""chroma below this: gray copies have 0 to 3, the least colored real photos 8."""

GRAY_SHARE: Final = 0.12
"""chroma over brightness below this too, since dark photos have little of both: real photos have 0.26 or more."""

FLAT_CONTRAST: Final = 6.0
"""contrast below this: an even picture; the darkest real photos have 14."""

BLACK: Final = (10.0, 30.0)
"""brightness and spread below both: black; the darkest real photos have 16."""

LETTERS: Final = (3, 4)
"""Letters in one row around the field alone, or anywhere: 600 photos without text have 2 at most."""

RARE_SHARE: Final = 0.05
"""A size of a smaller share of the photos is odd, where most of the others have one size."""

_SIDES: Final = ("left", "top", "right", "bottom")
_DAMAGE: Final = {"E_TRUNCATED": "truncated", "E_TOO_SMALL": "too_small"}


def examine(records: Iterable[Record]) -> Iterator[Finding]:
    """Findings about single photos, and about odd sizes, shared cuts and shared metadata of a folder."""
    sizes: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    cuts: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    named: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for record in records:
        folder = str(PurePosixPath(record.path).parent)
        yield from _of_file(record)
        if record.metadata:
            named[folder][record.path] = record.metadata
        if record.error is not None:
            continue
        sizes[folder][record.path] = record.width, record.height
        yield from _of_picture(record)
        if _is_cut(record.measures):
            cuts[folder][record.path] = {key: record.measures[key] for key in ("seen", *_SIDES)}
    for folder, cut in cuts.items():
        yield from _cut(folder, cut, len(sizes[folder]))
    for folder, tags in named.items():
        yield from _named(folder, tags)
    for folder, of_files in sizes.items():
        yield from _odd_sizes(folder, of_files)


def _of_file(record: Record) -> Iterator[Finding]:
    """Findings about the file, whatever the picture shows."""
    if record.error is not None:
        kind, says = _DAMAGE.get(record.error, "unreadable"), record.error_says or ""
        evidence: dict[str, Any] = {"code": record.error, "bytes": record.bytes}
        if record.width:
            evidence |= {"width_px": record.width, "height_px": record.height}
        yield found(kind, [record.path], f"{says[:1].upper()}{says[1:].rstrip('.')}.", evidence, severity="error")
    if record.orientation != 1:
        says = f"A tag (EXIF orientation {record.orientation}) asks to turn or mirror the picture."
        yield found("orientation", [record.path], says, {"orientation": record.orientation})


def _of_picture(record: Record) -> Iterator[Finding]:
    """Findings about the picture: at most one about its quality, which explains the others."""
    if "rim" not in record.measures:
        yield found("blank", [record.path], "No part of an eye is in the picture.")
        return
    for kind, says in islice(_faults(record), 1):
        yield found(kind, [record.path], says, _evidence(record))
    if load_fundus_test().classify(record.measures) == "other":
        return
    if record.letters[0] >= LETTERS[0] or record.letters[1] >= LETTERS[1]:
        where = "next to the field of view" if record.letters[0] >= LETTERS[0] else "in the picture"
        evidence = {"letters_in_a_row": max(record.letters)}
        yield found("burned_in_text", [record.path], f"Marks that look like a line of text are {where}.", evidence)
    chroma = record.measures.get("chroma", 255.0)
    is_gray = chroma < min(GRAY_CHROMA, GRAY_SHARE * record.measures["brightness"])
    if is_gray or not record.measures.get("has_color", 1.0):  # the second: tinted, too
        yield found("gray", [record.path], "The picture has no color.", {"chroma": chroma})


def _faults(record: Record) -> Iterator[tuple[str, str]]:
    """Kind and sentence of each fault of the picture's quality, those first that explain others."""
    measures = record.measures
    if record.field_of_view is None or (measures["brightness"] < BLACK[0] and measures["spread"] < BLACK[1]):
        yield "blank", "The picture shows nothing but black or one color."
    if measures["contrast"] < FLAT_CONTRAST and measures["full"] <= FULL_SHARE:
        yield "blank", "The picture is even: it has no detail at all."
    if (filled := measures.get("filled", 0.0)) > 0:
        yield (
            "truncated",
            f"The lowest {filled:.0%} of the picture is one even color: the file was cut short and saved again.",
        )
    likeness = load_fundus_test().classify(measures)
    if likeness == "other":
        yield "not_fundus", "The picture does not look like a photograph of the back of the eye."
    if measures["full"] > FULL_SHARE:
        yield "overexposed", f"The brightest color is at its limit in {measures['full']:.0%} of the field of view."
    if measures["washed"] > WASHED_SHARE:
        yield "overexposed", f"{measures['washed']:.0%} of the field of view is white."
    if measures["dark"] > DARK_SHARE:
        yield "dark", f"{measures['dark']:.0%} of the field of view is almost black."
    flat = measures["brightness"] < DARK_AND_FLAT[0] and measures["spread"] < DARK_AND_FLAT[1]
    if flat or measures["brightness"] < DARK_BRIGHTNESS:
        yield "dark", f"The field of view has a median brightness of {measures['brightness']:.0f} of 255."
    if measures["diameter_px"] < MIN_EYE_PX:
        yield "too_small", f"The eye is {measures['diameter_px']:.0f} px across; expected {MIN_EYE_PX} px or more."
    if measures.get("sharpness", 1.0) < BLURRED_SHARPNESS[0] and measures["sharp_lines"] < BLURRED_SHARPNESS[1]:
        yield "blurred", "Fine detail is missing: vessels have soft edges for their width."
    if measures.get("all_ways", 1.0) < SMEARED:
        yield "blurred", "Detail runs in one direction: the eye or the camera moved."
    if measures.get("vessels", 1.0) < NO_VESSELS or measures.get("detail", 9.0) < NO_DETAIL:
        yield "blurred", "Hardly a vessel is visible: blur, haze or glare covers the picture."
    if likeness in ("hidden", "unlike"):  # last, since any other fault may make a photo unlike the others
        yield "not_fundus", "The picture is unlike any photograph of the back of the eye."


def _cut(folder: str, cut: Mapping[str, Mapping[str, float]], photos: int) -> Iterator[Finding]:
    """Photos with much of the field beyond the frame; one finding for all where most of a folder are."""
    if len(cut) > HABIT * photos and photos > 3:
        says = f"{len(cut)} of {photos} photos here show only a part of the field of view: the folder was cropped."
        yield found("cut", list(cut), says, {"folder": folder, "photos": len(cut), "of": photos}, severity="info")
        return
    for name, measures in cut.items():
        sides = [side for side in _SIDES if measures[side] > 0.25]
        says = f"{measures['seen']:.0%} of the field of view is in the picture; it is cut off {_listed(sides)}."
        yield found("cut", [name], says, {"seen": measures["seen"], "sides": sides})


def _named(folder: str, of_files: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Metadata that may name a person, for each photo; one finding for all where many of a folder have some."""
    if len(of_files) > MAX_NAMED:
        counts = dict(Counter(tag for tags in of_files.values() for tag in tags).most_common())
        says = f"{len(of_files)} files have {_listed(counts)}; their content is not repeated here."
        evidence = {"folder": folder, "photos": len(of_files), "tags": counts}
        yield found("personal_metadata", list(of_files), says, evidence)
        return
    for name, tags in of_files.items():
        says = f"The file's metadata contain: {_listed(tags)}; their content is not repeated here."
        yield found("personal_metadata", [name], says, {"tags": list(tags)})


def _is_cut(measures: Mapping[str, float]) -> bool:
    if "left" not in measures:
        return False
    lopsided = max(abs(measures["left"] - measures["right"]), abs(measures["top"] - measures["bottom"]))
    return measures["seen"] < SEEN_SHARE or lopsided > CUT_ASYMMETRY


def _odd_sizes(folder: str, of_files: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    counts = Counter(of_files.values())
    (usual, often), whole = counts.most_common(1)[0], len(of_files)
    odd = sorted(name for name, size in of_files.items() if counts[size] < RARE_SHARE * whole)
    if not odd or often < 0.8 * whole:
        return
    says = f"{often} of {whole} photos are {usual[0]} x {usual[1]} px, {len(odd)} are of other sizes."
    sizes = {f"{width} x {height}": counts[width, height] for width, height in sorted({of_files[name] for name in odd})}
    evidence = {"folder": folder, "usual_px": list(usual), "photos": often, "odd_sizes": sizes}
    yield found("mixed_sizes", odd, says, evidence)


def _evidence(record: Record) -> dict[str, Any]:
    kept = ("brightness", "spread", "dark", "full", "washed", "sharpness", "sharp_lines", "vessels", "diameter_px")
    return {key: round(record.measures[key], 3) for key in kept if key in record.measures}


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "around"
