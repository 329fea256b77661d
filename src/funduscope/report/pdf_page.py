"""One photo as one PDF page: the photo with its findings, the answers, the evidence, and the model's scores.

Everything is taken from findings by code and values. If the texts do not fit, they are set smaller; the photo gets the
space that is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer, Table

from funduscope.i18n.languages import Words
from funduscope.inference.model_scores import UNKNOWN, figures_note, figures_table
from funduscope.report.html import TaskAnswer, evidence_table, further_answers, limits, model_line
from funduscope.report.outline import Palette, color_of
from funduscope.report.pdf import TEXT_WIDTH, picture, room_left
from funduscope.report.pdf_text import LINE, Text, percent, style
from funduscope.vocabulary import GRADES, REFERABLE_FROM

MAX_PICTURE, GOOD_PICTURE, MIN_PICTURE = 92 * mm, 78 * mm, 45 * mm
SIZES: Final = (8.5, 8.0, 7.5, 7.0, 6.5, 6.0, 5.5)
"""Sizes of the text in points: the first that leaves good space for the photo or, from `SMALL` on, enough."""

SMALL: Final = 7.5

MAX_NAME_LENGTH: Final = 120


@dataclass(frozen=True)
class PageContent:
    """What a page shows. found: as in findings.json. picture: a JPEG of the photo with its overlay.

    figures: the rows of `card.about["figures"]`, empty if the card has none. corrected: a person's corrections.
    """

    found: Mapping[str, Any]
    picture: bytes
    palette: Palette = "standard"
    figures: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    corrected: str = ""


def page(shown: PageContent, words: Words) -> list[Flowable]:
    """The parts of the page, from top to bottom, sized to fit."""
    column: list[Flowable] = []
    for size in SIZES:
        head, below = _head(shown.found, words), _rest(shown, words, size)
        room = room_left([*head, *below]) - 8
        column = [*head, picture(shown.picture, max(1.0, min(MAX_PICTURE, room))), *below]
        if room >= (GOOD_PICTURE if size > SMALL else MIN_PICTURE):
            break
    return column


def failure_page(name: str, says: str, code: str, words: Words, *, is_read: bool = False) -> list[Flowable]:
    """The parts of the page of a photo without an answer. says: why, in the language of the page. is_read: whether
    that is not because the file could not be read as a photo."""
    return [
        Text(shortened(name), style(13, bold=True)),
        Text(words("paper.refused"), style(12, bold=True, color="alert")),
        Text(f"{says} ({code})", style(10)),
        *([] if is_read else [Text(words("paper.refused_note"), style(10))]),
        Text(words("not_a_device"), style(9, color="dim")),
    ]


def footer(found: Mapping[str, Any], words: Words) -> str:
    """The footer: which model read which photo."""
    sha = found["photo"]["sha256"][:12]
    return f"{model_line(found['model'], words)} {words('paper.photo', {'sha': sha})}"


def shortened(name: str) -> str:
    """A photo's name, cut so that it leaves space for the rest of the page."""
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 12]}…{name[-10:]}"


def _head(found: Mapping[str, Any], words: Words) -> list[Flowable]:
    photo = found["photo"]
    about = f"{photo['width']} × {photo['height']} px."
    eye = found["laterality"]
    if eye:
        about += f" {words(f'paper.eye.{eye}')}"
    return [Text(shortened(photo["name"]), style(13, bold=True)), Text(about, style(8, color="dim")), Spacer(1, 2)]


def _rest(shown: PageContent, words: Words, size: float) -> list[Flowable]:
    found = shown.found
    parts: list[Flowable] = _trust(found, words, size)
    if found["gradable"]["ok"]:
        parts += [Text(words("paper.marks"), style(6.5, color="dim")), *_answers(found, words, size)]
    if shown.corrected:
        parts.append(Text(shown.corrected, style(size, bold=True)))
    if found["gradable"]["ok"]:
        parts += _evidence(found, words, size)
        parts += _lesions(found["lesions"] or {}, shown.palette, words, size)
    if found["warnings"]:
        parts += _titled("warnings.title", [words.message(note) for note in found["warnings"]], words, size)
    parts += _figures(shown.figures, words, size)
    return [*parts, *_titled("paper.not", [f"{words('not_a_device')} {limits(found, words)}"], words, size)]


def _trust(found: Mapping[str, Any], words: Words, size: float) -> list[Flowable]:
    """The warning that belongs above every answer, with the reasons of the photo's quality; nothing without one."""
    trust = found["headline"]["trust"]
    if trust is None:
        return []
    parts: list[Flowable] = [Text(words.message(trust), style(size + 3, bold=True, color="alert"))]
    parts += [Text(words.message(note), style(size + 1)) for note in found["gradable"]["reasons"]]
    if not found["gradable"]["ok"]:
        parts.append(Text(words("gradable.nothing_said"), style(size)))
        if (what_to_do := found["headline"]["referral"]) is not None:
            parts.append(Text(words.message(what_to_do), style(size + 1, bold=True)))
    return parts


def _answers(found: Mapping[str, Any], words: Words, size: float) -> list[Flowable]:
    """Grade, edema risk, further answers and referral next to each other; below them the gradability score."""
    cells = [cell for answer in (_grade, _edema) if (cell := answer(found, words, size))]
    cells += [_further(answer, size) for answer in further_answers(found, words)]
    cells += [cell] if (cell := _referral(found, words, size)) else []
    parts: list[Flowable] = []
    if cells:
        grid = [("BOX", (0, 0), (-1, -1), 0.6, LINE), ("INNERGRID", (0, 0), (-1, -1), 0.6, LINE), *_TIGHT]
        parts.append(Table([cells], [TEXT_WIDTH / len(cells)] * len(cells), style=grid))
    score = found["gradable"].get("score")
    if score is not None:
        parts.append(Text(words("gradable.score", {"score": words.number(score, ".2f")}), style(size, color="dim")))
    return parts


def _grade(found: Mapping[str, Any], words: Words, size: float) -> list[Flowable]:
    grade = found["predicted_grade"]
    if grade is None:
        return []
    names = [f"{number} {words(f'grade.{number}')}" for number in range(len(GRADES))]
    grades = found.get("grade_set")
    among = words("grade.set", {"grades": ", ".join(map(str, grades))}) if grades else words("paper.set_unknown")
    return [
        Text(words("grade.title"), style(size, color="dim")),
        Text(words.message(found["headline"]["grade"]), style(size + 3, bold=True)),
        *(_ProbabilityBar(name, probability, chosen=number == grade, size=size)
          for number, (name, probability) in enumerate(zip(names, found["probabilities"], strict=True))),
        Text(among, style(size - 0.5, color="dim")),
    ]  # fmt: skip


def _edema(found: Mapping[str, Any], words: Words, size: float) -> list[Flowable]:
    said = found["headline"]["dme"]
    if said is None:
        return []
    title: list[Flowable] = [
        Text(words("dme.title"), style(size, color="dim")),
        Text(words.message(said), style(size + 3, bold=True)),
    ]
    if found["dme"] is None:
        return title

    risk = found["dme"]["risk"]
    return [
        *title,
        *(_ProbabilityBar(str(number), probability, chosen=number == risk, size=size)
          for number, probability in enumerate(found["dme"]["probabilities"])),
        Text(f"{risk}: {words(f'dme.{risk}')}.", style(size - 0.5, color="dim")),
    ]  # fmt: skip


def _further(answer: TaskAnswer, size: float) -> list[Flowable]:
    return [
        Text(answer.title, style(size, color="dim")),
        Text(answer.names[answer.chosen], style(size + 3, bold=True)),
        *(_ProbabilityBar(name, probability, chosen=number == answer.chosen, size=size)
          for number, (name, probability) in enumerate(zip(answer.names, answer.probabilities, strict=True))),
    ]  # fmt: skip


def _referral(found: Mapping[str, Any], words: Words, size: float) -> list[Flowable]:
    advice, referable = found["advice"], found["referable"]
    parts: list[Flowable] = []
    if advice is not None:
        parts.append(Text(words("advice.title"), style(size, color="dim")))
        if (answer := found["headline"]["referral"]) is not None:  # of several photos in one picture there is none
            color = "alert" if advice["refer"] else "ink"
            parts.append(Text(words.message(answer), style(size + 3, bold=True, color=color)))
        parts += [Text(words.message(note), style(size)) for note in advice["because"]]
    if referable is not None:
        values = {key: percent(referable[key]) for key in ("probability", "threshold")}
        says = words("referable.yes" if referable["value"] else "referable.no", values | {"grade": REFERABLE_FROM})
        parts.append(Text(says, style(size - 0.5, color="dim")))
    return parts


def _evidence(found: Mapping[str, Any], words: Words, size: float) -> list[Flowable]:
    if not found["evidence"]:
        return []
    says = [Text(f"• {words.message(note)}", style(size)) for note in found["evidence"]]
    left, right = TEXT_WIDTH * 0.47, TEXT_WIDTH * 0.53
    widths = [(left - 12) * share for share in (0.44, 0.16, 0.18, 0.22)]
    cells = [_table(evidence_table(found, words), widths, size), says]
    outer = Table([cells], [left, right], style=[*_TIGHT, ("LEFTPADDING", (0, 0), (0, 0), 0)])
    return [_headed(words("evidence.title"), size), outer]


def _titled(key: str, sentences: Sequence[str], words: Words, size: float) -> list[Flowable]:
    return [_headed(words(key), size), *(Text(says, style(size)) for says in sentences)]


# ---- the tables ----


_TIGHT: Final = (
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ("LEFTPADDING", (0, 0), (-1, -1), 5),
    ("RIGHTPADDING", (0, 0), (-1, -1), 5),
    ("BACKGROUND", (0, 0), (-1, -1), HexColor("#ffffff")),
)
_PLAIN: Final = (
    ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
    ("TOPPADDING", (0, 0), (-1, -1), 0.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 6),
    ("LINEBELOW", (0, 0), (-1, 0), 0.5, LINE),
)


class _ProbabilityBar(Flowable):
    """One class in a line: its name, a bar, and the probability in percent; the chosen one in bold."""

    def __init__(self, name: str, probability: float, *, chosen: bool, size: float) -> None:
        super().__init__()
        self.probability, self.chosen, self.size = min(1.0, max(0.0, probability)), chosen, size
        self.name = Text(name, style(size, bold=chosen))
        self.share = Text(percent(probability), style(size, bold=chosen))

    def wrap(self, aW: float, aH: float) -> tuple[float, float]:
        self.across = aW
        height = self.name.wrap(aW * 0.5, aH)[1]
        self.share.wrap(aW * 0.18, aH)
        self.height = height
        return aW, height

    def draw(self) -> None:
        self.name.drawOn(self.canv, 0, 0)
        self.share.drawOn(self.canv, self.across * 0.84, self.height - self.share.height)
        left, width, high = self.across * 0.5, self.across * 0.3, self.size * 0.55
        for share, color in ((1.0, "#e3e3e3"), (self.probability, "#1f5fbf" if self.chosen else "#8c8c8c")):
            self.canv.setFillColor(HexColor(color))
            self.canv.rect(left, self.height - self.size * 1.05, width * share, high, stroke=0, fill=1)


def _lesions(found: Mapping[str, Any], palette: Palette, words: Words, size: float) -> list[Flowable]:
    """A line per kind of lesion: count, area, distance to the fovea, with a swatch in the color of its outlines.

    found: `lesions` of findings.json.
    """
    title = _headed(words("lesions.title"), size)
    if not found:
        return [title, Text(words("paper.no_lesion_sought"), style(size))]
    heads = [words(f"lesions.{name}") for name in ("kind", "count", "area")]
    heads += [words("paper.area_dd2"), words("lesions.fovea"), words("paper.threshold")]
    rows: list[list[str | Flowable]] = [["", *heads]]
    for code, one in found.items():
        area, away = one["area_dd2"], one["nearest_fovea_dd"]
        rows.append(
            [
                swatch(color_of(code, palette), size),
                words.structure(code),
                str(one["count"]),
                f"{one['area_px']:,}".replace(",", " "),
                UNKNOWN if area is None else words.number(area, ".3f"),
                UNKNOWN if away is None else words.number(away, ".2f"),
                UNKNOWN if one["threshold"] is None else words.number(one["threshold"], ".2f"),
            ]
        )
    widths = [5 * mm, *((TEXT_WIDTH - 5 * mm) * share for share in (0.28, 0.12, 0.14, 0.15, 0.16, 0.15))]
    return [title, _table(rows, widths, size), Text(words("paper.dd"), style(size - 1, color="dim"))]


def _headed(text: str, size: float) -> Text:
    """The title of a part, with space above it."""
    return Text(text, style(size + 1, bold=True, before=size * 0.6))


def swatch(color: tuple[int, int, int], size: float) -> Flowable:
    """A small square in the color of an outline; its dark edge makes yellow visible on white paper."""
    side, edge = size * 0.9, HexColor("#444444")
    fill = Color(*(level / 255 for level in color))
    rect = Rect(0, 0, side, side, fillColor=fill, strokeColor=edge, strokeWidth=0.4)  # pyright: ignore[reportArgumentType]
    return Drawing(side, side, rect)


def _figures(stated: Sequence[Mapping[str, Any]], words: Words, size: float) -> list[Flowable]:
    """The model's scores with intervals as its card states them; a sentence if it states none."""
    title, rows = _headed(words("paper.figures"), size), figures_table(stated, words)
    if not rows:
        return [title, Text(words("paper.figures_none"), style(size))]
    sets = len(rows[0]) - 1
    widths = [TEXT_WIDTH * 0.34, *[TEXT_WIDTH * 0.66 / sets] * sets]
    return [title, _table(rows, widths, size), Text(figures_note(stated, words), style(size - 1, color="dim"))]


def _table(rows: Sequence[Sequence[str | Flowable]], widths: Sequence[float], size: float) -> Flowable:
    """A table of texts and drawings; the first row is the header."""
    heads, others = style(size, color="dim"), style(size)
    cells = [
        [Text(cell, others if number else heads) if isinstance(cell, str) else cell for cell in row]
        for number, row in enumerate(rows)
    ]
    return Table(cells, list(widths), hAlign="LEFT", style=list(_PLAIN))
