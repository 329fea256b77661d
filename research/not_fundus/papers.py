"""Flat pictures: pages, forms, screens, plots, charts, codes, maps, icons, test patterns, noise, gradients."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .grounds import Draw, clouds, colors_of, level, sized, words

PAPERS: Final = ((250, 249, 246), (255, 255, 255), (238, 232, 218), (226, 226, 222))


def page(rng: np.random.Generator) -> np.ndarray:
    """A printed page or letter, sometimes light on dark, sometimes scanned askew."""
    height, width = sized(rng)
    dark = rng.random() < 0.25
    paper, ink = ((24, 26, 30), (205, 208, 212)) if dark else (PAPERS[rng.integers(4)], (28, 28, 32))
    picture = Image.new("RGB", (width, height), paper)
    draw, size = ImageDraw.Draw(picture), int(rng.integers(11, 26))
    font = ImageFont.load_default(size)
    columns = int(rng.integers(1, 3))
    for column in range(columns):
        left, wide = 30 + column * (width // columns), width // columns - 60
        for line in range(int(height / (1.5 * size)) - 2):
            if rng.random() > 0.12:
                said = words(rng, 30)[: int(wide / (0.5 * size) * rng.uniform(0.5, 1))]
                draw.text((left, size + 1.5 * size * line), said, fill=ink, font=font)
    made = np.asarray(picture)
    if rng.random() < 0.4:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-8, 8)), 1)
        made = cv2.warpAffine(made, turn, (width, height), borderValue=(60, 58, 55) if rng.random() < 0.5 else paper)
    return level(made.astype(np.float32) + rng.normal(0, rng.uniform(0, 6), made.shape))


def form(rng: np.random.Generator) -> np.ndarray:
    """A form, receipt or card with boxes, lines and a stamp."""
    height, width = sized(rng)
    picture = Image.new("RGB", (width, height), PAPERS[rng.integers(4)])
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for row in range(20, height - 40, int(rng.integers(28, 60))):
        draw.text((24, row), words(rng, 3), fill=(50, 50, 60), font=font)
        draw.rectangle((width // 3, row - 4, width - 30, row + 20), outline=(120, 120, 130))
        if rng.random() < 0.6:
            draw.text((width // 3 + 8, row), words(rng, 4), fill=(20, 30, 110), font=font)
    x, y, radius = int(rng.integers(80, width - 80)), int(rng.integers(80, height - 80)), int(rng.integers(40, 80))
    for ring in (radius, radius - 6):
        draw.ellipse((x - ring, y - ring, x + ring, y + ring), outline=(170, 40, 40), width=3)
    return np.asarray(picture)


def plot(rng: np.random.Generator) -> np.ndarray:
    """A figure by matplotlib: lines, points, bars, slices, maps of color, polar, contours."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dark, kind = bool(rng.random() < 0.3), int(rng.integers(8))
    with mpl.rc_context({"figure.facecolor": "black" if dark else "white", "axes.facecolor": "none"}):
        figure = Figure(figsize=(6.4, 4.8), dpi=float(rng.integers(80, 150)))
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot(projection="polar" if kind == 4 else None)
        x = np.linspace(0, 6, 80)
        if kind == 0:
            for _ in range(4):
                axes.plot(x, np.cumsum(rng.normal(size=80)))
        elif kind == 1:
            axes.scatter(rng.normal(size=300), rng.normal(size=300), c=rng.random(300), cmap="hot")
        elif kind == 2:
            axes.bar(range(9), rng.random(9), color="tab:red")
        elif kind == 3:
            axes.pie(rng.random(5) + 0.1, colors=[str(c) for c in ("tomato", "orange", "gold", "brown", "salmon")])
        elif kind == 4:
            axes.fill(x, rng.random(80), alpha=0.6, color="darkorange")
        elif kind == 5:
            axes.imshow(clouds(rng, (200, 260), 6), cmap=str(rng.choice(["inferno", "hot", "copper", "autumn"])))
        elif kind == 6:
            axes.contourf(clouds(rng, (80, 100), 5), levels=12, cmap="afmhot")
        else:
            axes.hist(rng.normal(size=500), bins=30, color="firebrick")
            axes.set_title(words(rng, 4))
        if kind in (3, 5) and rng.random() < 0.5:
            axes.set_axis_off()
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def chart(rng: np.random.Generator) -> np.ndarray:
    """A checkerboard, color bars, a zone plate, a matrix code, stripes: test patterns."""
    (height, width), kind = sized(rng), int(rng.integers(5))
    y, x = np.mgrid[:height, :width]
    if kind == 0:
        cell = int(rng.integers(20, 90))
        return colors_of(((x // cell + y // cell) % 2) * 255)
    if kind == 1:
        bars = np.array([[255, 255, 255], [255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0]])
        return bars[(x * 6 // width)].astype(np.uint8)
    if kind == 2:
        away = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / rng.uniform(200, 2000)
        return colors_of(127 + 127 * np.cos(away))
    if kind == 3:
        cells = rng.integers(0, 2, (29, 29)).astype(np.uint8) * 255
        code = cv2.resize(cells, (min(height, width),) * 2, interpolation=cv2.INTER_NEAREST)
        return colors_of(np.pad(code, 30, constant_values=255))
    return colors_of(127 + 120 * np.sign(np.sin(x * rng.uniform(0.02, 0.2) + y * rng.uniform(0, 0.1))))


def land_map(rng: np.random.Generator) -> np.ndarray:
    """A map: land, water, roads, names."""
    height, width = sized(rng)
    ground = clouds(rng, (height, width), 6)
    picture = np.where((ground > 0)[..., None], (238, 232, 214), (166, 202, 226)).astype(np.uint8)
    picture[ground > 0.9] = (196, 218, 176)
    for _ in range(12):
        ends = rng.integers(0, (width, height), (2, 2))
        cv2.line(picture, ends[0].tolist(), ends[1].tolist(), (250, 214, 120), int(rng.integers(1, 7)), cv2.LINE_AA)
    drawn = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawn)
    for _ in range(18):
        draw.text(tuple(rng.integers(0, (width, height)).tolist()), words(rng, 1), fill=(60, 60, 60))
    return np.asarray(drawn)


def icon(rng: np.random.Generator) -> np.ndarray:
    """A logo: a few flat shapes, on white, black or a color."""
    side = int(rng.integers(300, 700))
    ground = [(255, 255, 255), (0, 0, 0), tuple(rng.integers(0, 256, 3).tolist())][rng.integers(3)]
    picture = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 5))):
        color = tuple(rng.integers(0, 256, 3).tolist())
        box = np.sort(rng.uniform(0.05, 0.95, (2, 2)), axis=0) * side
        (x0, y0), (x1, y1) = box
        kind = rng.integers(4)
        if kind == 0:
            draw.rounded_rectangle((x0, y0, x1, y1), radius=side // 12, fill=color)
        elif kind == 1:
            draw.ellipse((x0, y0, x1, y1), fill=color)
        elif kind == 2:
            draw.polygon([(x0, y1), ((x0 + x1) / 2, y0), (x1, y1)], fill=color)
        else:
            draw.text((side * 0.1, side * 0.3), words(rng, 1)[:6], fill=color, font=ImageFont.load_default(side // 4))
    return np.asarray(picture)


def screen(rng: np.random.Generator) -> np.ndarray:
    """A program's window: bars, panels, rows, buttons; light or dark."""
    height, width = sized(rng)
    dark = rng.random() < 0.4
    ground, panel, ink = ((30, 31, 34), (44, 46, 50), (200, 200, 205)) if dark else ((236,) * 3, (255,) * 3, (40,) * 3)
    picture = Image.new("RGB", (width, height), ground)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    draw.rectangle((0, 0, width, 30), fill=tuple(rng.integers(20, 160, 3).tolist()))
    for _ in range(int(rng.integers(3, 7))):
        x, y = int(rng.integers(0, width - 150)), int(rng.integers(40, height - 100))
        draw.rectangle((x, y, x + int(rng.integers(120, 400)), y + int(rng.integers(60, 300))), fill=panel)
        for row in range(5):
            draw.text((x + 10, y + 10 + 20 * row), words(rng, 4), fill=ink, font=font)
    return np.asarray(picture)


def noise(rng: np.random.Generator) -> np.ndarray:
    """Noise: gray or colored, fine or coarse, even in a retina's colors."""
    (height, width), kind = sized(rng), int(rng.integers(4))
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        return colors_of(128 + 40 * rng.standard_normal((height, width)))
    fine = clouds(rng, (height, width), int(rng.integers(8, 120)))[..., None]
    if kind == 2:
        return level(np.array([170, 90, 50]) + fine * np.array([40, 30, 20]) + rng.normal(0, 3, (height, width, 3)))
    return level(128 + 60 * np.dstack([clouds(rng, (height, width), 20) for _ in range(3)]))


def gradient(rng: np.random.Generator) -> np.ndarray:
    """A gradient between two colors, across or around a point; sometimes of a retina's colors."""
    height, width = sized(rng)
    y, x = np.mgrid[:height, :width]
    warm = rng.random() < 0.5
    ends = np.array([(200, 110, 60), (60, 20, 10)]) if warm else rng.integers(0, 256, (2, 3))
    if rng.random() < 0.5:
        at = np.hypot((x - width * rng.uniform(0.3, 0.7)), (y - height * rng.uniform(0.3, 0.7))) / (0.7 * width)
    else:
        at = (x / width * np.cos(rng.uniform(0, 3)) + y / height) / 2 + 0.2
    at = np.clip(at, 0, 1)[..., None]
    return level(ends[0] * (1 - at) + ends[1] * at + rng.normal(0, rng.uniform(0, 3), (height, width, 1)))


FAMILIES: Final[dict[str, tuple[Draw, ...]]] = {
    "pages": (page, form),
    "plots": (plot,),
    "charts and maps": (chart, land_map),
    "icons": (icon,),
    "screens": (screen,),
    "noise": (noise,),
    "gradients": (gradient,),
}
