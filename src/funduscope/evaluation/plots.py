"""Plots of scores: curves, confusions, calibration and distances of each data set, and its best and worst photos.

Needs matplotlib, which only the extra `train` installs. Colors are those of Okabe and Ito (2008); no plot relies on
color alone.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from funduscope.atomic import replacing
from funduscope.data.case import LabelError
from funduscope.evaluation.score_key import DME, DR, Aspect, Question, ScoreKey
from funduscope.evaluation.score_photo import MARKS_PX, shrunk, shrunk_size
from funduscope.evaluation.scores import PhotoScore, Scores
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.metrics.grading import furthest_grade
from funduscope.metrics.landmark_distance import DISC_DIAMETER_PX
from funduscope.vocabulary import CODES, EITHER_EXUDATE, GRADES, PHOTO_TASKS, structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES: Final[dict[str, Any]] = {"HE": "--", "EX": "-.", "SE": ":", "OD": (0, (6, 1, 1, 1, 1, 1))}
ON_WHITE: Final = {"EX": "#e69f00", EITHER_EXUDATE: "#000000"}
"""Instead of a structure's own color, where that is yellow, or there is none."""

RIGHT, MISSED, FALSE = (86, 180, 233), (255, 255, 255), (0, 0, 0)
"""RGB of pixels found rightly, missed, and found falsely; they differ in lightness too."""

LEGEND: Final = "above the truth (white: missed), below what was predicted (black: false); blue: both"

COLUMNS: Final = 4
GAP_PX: Final = 8
"""Between the two pictures of one photo."""

_GRAY, _BLUE, _VERMILION = "#777777", "#0072b2", "#d55e00"


def draw_all(scores: Scores, folder: Path) -> list[Path]:
    """Draws every plot that the scores allow into `folder` as PNG and returns the files.

    The contact sheets show the photos themselves: check their licenses before you share them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for dataset, details in scores.details.items():
        states = details["states"]
        for name, draw in (
            ("precision_recall", _precision_recall),
            ("confusion", _confusions),
            ("reliability", _reliability),
            ("distances", _distances),
        ):
            figure = draw(dataset, scores, states)
            if figure is not None:
                drawn.append(_save(figure, folder / f"{_plain(dataset)}_{name}.png"))
        photos = [photo for photo in scores.photos if photo.case.dataset == dataset]
        if any("gates" in photo.row for photo in photos):
            drawn.append(_save(_experts(dataset, photos), folder / f"{_plain(dataset)}_experts.png"))
        for what, title, code, (best, worst) in _rankings(photos):
            sheet = _sheet(f"{dataset}: {title}", best, worst, code)
            drawn.append(_save(sheet, folder / f"{_plain(dataset)}_photos_{_plain(what)}.png"))
    return drawn


def _precision_recall(dataset: str, scores: Scores, states: dict[str, Any]) -> Figure | None:
    questions = [Question(code, Aspect.PIXELS) for code in (*CODES, EITHER_EXUDATE)]
    questions = [one for one in questions if states.get(one.name, {}).get("positives")]
    if not questions:
        return None
    figure, (axes,) = _figure(1, 5.6, 5.0)
    for question in questions:
        curve = states[question.name]["curve"]
        color, style = _line(question.subject)
        value = scores.number(ScoreKey(dataset, question, "AUPR"))
        prevalence = 100 * scores.number(ScoreKey(dataset, question, "prevalence"))
        label = f"{Question(question.subject).title}: area {value:.2f} (prevalence {prevalence:.2g} %)"
        axes.plot(curve["recall"], curve["precision"], color=color, linestyle=style, linewidth=2, label=label)
    photos = max(states[question.name]["photos"] for question in questions)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), title=f"{dataset}: pixels at 33 thresholds, up to {_photos(photos)}")
    axes.set(xlabel="recall (share of true pixels found)", ylabel="precision (share of found pixels that are true)")
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=1)
    return figure


def _confusions(dataset: str, scores: Scores, states: dict[str, Any]) -> Figure | None:
    names = [task.title for task in PHOTO_TASKS if task.title in states]
    if not names:
        return None
    figure, panels = _figure(len(names), 4.8, 4.9)
    for name, axes in zip(names, panels, strict=True):
        counts = np.array(states[name]["confusion"])
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if share[row, column] > 0.55 else "black"
            text = f"{count}\n{100 * share[row, column]:.0f} %" if count else "0"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=10)
        what = {DR: "grade", DME: "risk"}.get(name, "class")
        ticks = range(len(counts))
        axes.set(xticks=ticks, yticks=ticks, xlabel=f"predicted {what}", ylabel=f"true {what}")
        axes.grid(False)
        kappa, accuracy = (scores.number(ScoreKey(dataset, Question(name), score)) for score in ("kappa", "accuracy"))
        refused = states[name]["refused"]
        refused = f"\n{refused} refused, counted as the furthest {what}" if refused else ""
        agreement = "not known" if np.isnan(kappa) else f"{kappa:.2f}"  # where all labels are of one class
        axes.set_title(
            f"{dataset}: {name}, {_photos(counts.sum())}\nkappa {agreement}, accuracy {accuracy:.2f}{refused}"
        )
    return figure


def _reliability(dataset: str, scores: Scores, states: dict[str, Any]) -> Figure | None:
    names = [
        task.title
        for task in PHOTO_TASKS
        if any(one["count"] for one in states.get(Question(task.title, Aspect.CALIBRATION).name, {}).get("bins", ()))
    ]
    if not names:
        return None
    figure, panels = _figure(len(names), 4.8, 4.9)
    for name, axes in zip(names, panels, strict=True):
        calibration = Question(name, Aspect.CALIBRATION)
        bins = [one for one in states[calibration.name]["bins"] if one["count"]]
        counts = np.array([one["count"] for one in bins])
        axes.plot([0, 1], [0, 1], color=_GRAY, linestyle="--", linewidth=1, label="perfect calibration")
        sure, right = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
        sizes = 20 + 300 * counts / max(1, counts.sum())
        axes.scatter(sure, right, s=sizes, color=_BLUE, zorder=3, label="bin (area: number of photos)")
        ece = scores.number(ScoreKey(dataset, calibration, "ECE"))
        bias = states[Question(name, Aspect.PROBABILITIES).name].get("ECE of a calibrated model")
        expected = "" if bias is None else f" ({bias:.3f} if calibrated)"
        axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="mean confidence (highest probability)", ylabel="accuracy")
        axes.set_aspect("equal")
        axes.set_title(f"{dataset}: {name}, {_photos(round(counts.sum()))}\nECE {ece:.3f}{expected}")
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def _distances(dataset: str, scores: Scores, states: dict[str, Any]) -> Figure | None:
    names = [name for name in ("disc center", "fovea") if states.get(name, {}).get("distances px")]
    if not names:
        return None
    figure, panels = _figure(len(names), 5.2, 4.1)
    for name, axes in zip(names, panels, strict=True):
        distances = np.array(states[name]["distances px"])
        far = DISC_DIAMETER_PX * 1.1
        bins = np.linspace(0, far, 34).tolist()
        axes.hist(np.minimum(distances, far - 1), bins=bins, color="#56b4e9", edgecolor="white")
        mean, median = float(distances.mean()), float(np.median(distances))
        mean_at, median_at = (f"{value:.0f} px{' (beyond)' if value > far else ''}" for value in (mean, median))
        axes.axvline(mean, color=_VERMILION, linewidth=2, label=f"mean {mean_at}")
        axes.axvline(median, color="black", linewidth=2, linestyle="--", label=f"median {median_at}")
        axes.locator_params(axis="y", integer=True)
        axes.set(xlim=(0, far), xlabel="distance, px of a 4288-wide photo (last bar: all beyond)", ylabel="photos")
        scale = partial(np.multiply, 1 / DISC_DIAMETER_PX), partial(np.multiply, DISC_DIAMETER_PX)
        axes.secondary_xaxis("top", functions=scale).set_xlabel("disc diameters", fontsize=9)
        missed = f", {states[name]['missed']} not found" if states[name]["missed"] else ""
        axes.set_title(f"{dataset}: {name}, {_photos(len(distances))}{missed}")
        axes.legend(loc="upper right", frameon=False, fontsize=9)
    return figure


def _experts(dataset: str, photos: list[PhotoScore]) -> Figure:
    """Experts by photo: one panel for each router, one row for each photo (by grade, if known), one column per expert.

    White: not computed for that photo. The number above a column is the share of photos it was computed for.
    """
    routed = [photo for photo in photos if "gates" in photo.row]
    # Several runs may have been scored, whose routers differ: those of the first photo are drawn.
    sizes = {name: len(shares) for name, shares in routed[0].row["gates"].items()}
    routed = [p for p in routed if {name: len(shares) for name, shares in p.row["gates"].items()} == sizes]
    unknown = len(GRADES)  # photos without a grade come last
    routed.sort(key=lambda photo: unknown if photo.row.get("grade") is None else photo.row["grade"])
    routers = list(routed[0].row["gates"])
    figure, panels = _figure(len(routers), 1.9, 5.5)
    for axes, router in zip(panels, routers, strict=True):
        shares = np.array([photo.row["gates"][router] for photo in routed])
        axes.imshow(np.where(shares > 0, shares, np.nan), aspect="auto", cmap="viridis_r", vmin=0, vmax=1)
        taken = (shares > 0).mean(axis=0)
        names = [f"{index + 1}\n{share:.0%}" for index, share in enumerate(taken)]
        axes.set_xticks(range(len(taken)), names, fontsize=7)
        axes.xaxis.tick_top()
        axes.set_yticks([])
        axes.grid(False)
        axes.set_title(router)
        known = [photo.row.get("grade") for photo in routed]
        for row in (row for row in range(1, len(known)) if known[row] != known[row - 1]):
            axes.axhline(row - 0.5, color=_VERMILION, linewidth=0.8)
    panels[0].set_ylabel(f"{len(routed)} photos, grade 0 at the top; unknown grades last")
    figure.suptitle(f"{dataset}: the share that each expert has in each photo", fontsize=10)
    return figure


def _line(code: str) -> tuple[str, Any]:
    """Color and style of a structure's curve; the color is the overlay's color-blind safe one, if it can be seen."""
    return ON_WHITE.get(code) or "#{:02x}{:02x}{:02x}".format(*structure(code).safe_color), DASHES.get(code, "-")


def _rankings(photos: list[PhotoScore]) -> list[tuple[str, str, str | None, tuple[list[PhotoScore], list[PhotoScore]]]]:
    """Rankings of photos: word in the file name, title, structure to outline, best and worst photos."""
    rankings = []
    graded = [photo for photo in photos if photo.row.get("grade") is not None]
    if graded:
        rankings.append(("grade", "by DR grade", None, _ends(graded, _grade_merit)))
    for code in (*CODES, EITHER_EXUDATE):
        key = f"{code} IoU" if code == "OD" else f"{code} Dice"
        known = [photo for photo in photos if photo.row.get(key) is not None]
        if known:
            title = f"by {Question(key).title}\n{LEGEND}"
            rankings.append((code, title, code, _ends(known, lambda photo, key=key: photo.row[key])))
    return rankings


def _ends(photos: list[PhotoScore], merit: Callable[[PhotoScore], Any]) -> tuple[list[PhotoScore], list[PhotoScore]]:
    """The best photos, best first, and the worst, worst first; no photo is among both."""
    ranked = sorted(photos, key=lambda photo: (merit(photo), photo.case.key), reverse=True)
    count = min(COLUMNS, (len(ranked) + 1) // 2)
    return ranked[:count], ranked[count:][::-1][:COLUMNS]


def _grade_merit(photo: PhotoScore) -> tuple[float, float]:
    """Fewer grades off is better; then a higher probability of the true grade."""
    truth, predicted, probs = photo.row["grade"], photo.row["predicted_grade"], photo.row["grade_probs"]
    if predicted is None:
        return -abs(truth - furthest_grade(truth, len(GRADES))), 0.0
    return -abs(truth - predicted), probs[truth] if probs else 0.0


def _sheet(title: str, best: list[PhotoScore], worst: list[PhotoScore], code: str | None) -> Figure:
    rows = [("best", best), ("worst", worst)] if worst else [("best", best)]
    columns = max(2 if code is None else 3, len(best))  # fewer photos are narrower than the title
    tall = 2.75 if code is None else 5.05  # with one picture per photo, or two
    figure, panels = _figure(columns, 3.4, tall * len(rows) + 0.4, rows=len(rows))
    for axes in panels:
        axes.set_axis_off()
    for row, (name, photos) in enumerate(rows):
        for column, photo in enumerate(photos):
            axes = panels[row * columns + column]
            axes.imshow(_tile(photo, code))
            words = f"{name} {column + 1}: {photo.case.name[:28]}\n{_caption(photo, code)}"
            axes.set_title(words, fontsize=9, parse_math=False)  # a file's name may hold dollars
    figure.suptitle(title, fontsize=12)
    return figure


def _caption(photo: PhotoScore, code: str | None) -> str:
    row = photo.row
    if code is None:
        answer = "refused" if row["predicted_grade"] is None else f"predicted {row['predicted_grade']}"
        sure = f" (p of true {row['grade_probs'][row['grade']]:.2f})" if row["grade_probs"] else ""
        return f"true {row['grade']}, {answer}{sure}"
    key = "IoU" if code == "OD" else "Dice"
    return f"{key} {row[f'{code} {key}']:.2f}" + (", refused" if photo.refused else "")


def _tile(photo: PhotoScore, code: str | None) -> np.ndarray:
    """The photo, reduced; for a structure twice, the truth above the prediction. Gray where it cannot be opened.

    Missed pixels are marked only above and false ones only below, so that the other picture shows the photo itself.
    """
    try:
        pixels = Photo.open(photo.case.path).pixels
    except PhotoError:
        return np.full((MARKS_PX * 2 // 3, MARKS_PX, 3), 128, np.uint8)
    height, width = pixels.shape[:2]
    size = shrunk_size(height, width)
    tile = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if code is None:
        return tile
    try:
        mask = photo.case.labels.masks[code].load(height, width)
    except LabelError:
        mask = None
    true = np.zeros(size[::-1], bool) if mask is None else shrunk(mask)
    found = photo.marks.get(code, np.zeros_like(true))
    truth, answer = tile.copy(), tile.copy()
    if found.shape == true.shape == tile.shape[:2]:
        truth[true & found], truth[true & ~found] = RIGHT, MISSED
        answer[true & found], answer[found & ~true] = RIGHT, FALSE
    return np.vstack([truth, np.full((GAP_PX, size[0], 3), 255, np.uint8), answer])


def _photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"


def _figure(columns: int, width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` by `rows` panels, each `width` inches wide; `height` inches in all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="#e0e0e0", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.title.set_fontsize(10)
    return figure, panels


def _save(figure: Figure, path: Path) -> Path:
    # Without the version of the drawing library in it, the same scores give the same file.
    with replacing(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of files' names in scripts that the font does not have
        figure.savefig(unfinished, format="png", dpi=120, metadata={"Software": None})
    return path


def drawn_names(datasets: Iterable[str], folder: Path) -> list[str]:
    """The names of files in the folder that `draw_all` gives to plots of these data sets."""
    kinds = r"_(precision_recall|confusion|reliability|distances|experts|photos_[^\W_](?:[^\W_]|-)*)\.png"
    of_sets = re.compile(f"({'|'.join(re.escape(_plain(dataset)) for dataset in datasets)}){kinds}")
    return [file.name for file in folder.iterdir() if of_sets.fullmatch(file.name)]


def _plain(name: str) -> str:
    """A name for a file: letters of any script, digits and hyphens."""
    return re.sub(r"[\W_]+", "-", name).strip("-")
