"""Poor and damaged photos, and photos that name a person, are found by kind; good ones have no finding."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from funduscope.doctor import photo_checks
from funduscope.doctor.record import Record, scan_photo
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.quality.fundus import measure_all
from funduscope.quality.image_measures import FRAME_PX, small_frame
from funduscope.testing.drawn_eyes import STYLES, draw_eye

WIDTH = 768


@pytest.fixture(scope="module")
def eyes() -> list[np.ndarray]:
    return [draw_eye(seed, width_px=WIDTH).pixels for seed in (3, 4)]


def _kinds(record: Record) -> list[str]:
    return [one.kind for one in photo_checks.examine([record])]


def _saved(pixels: np.ndarray, folder: Path, name: str = "eye.jpg") -> Path:
    path = folder / name
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=90)
    return path


def _exposed(times: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: np.clip(pixels.astype(np.float32) * times, 0, 255).astype(np.uint8)


def _blurred(pixels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), 20 * WIDTH / 4288)  # sigma 20 px of a 4288-wide photo


def _moved(pixels: np.ndarray) -> np.ndarray:
    """The eye moved by a thirtieth of the photo's width during the exposure."""
    length = WIDTH // 30
    return cv2.filter2D(pixels, -1, np.full((1, length), 1 / length, np.float32))


def _grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def _sepia(pixels: np.ndarray) -> np.ndarray:
    return np.clip(_grey(pixels) * np.array([1.07, 0.95, 0.74]), 0, 255).astype(np.uint8)


def _written(text: str, at: tuple[float, float], color: tuple[int, int, int]) -> Callable[[np.ndarray], np.ndarray]:
    def write(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(pixels)
        place = at[0] * image.width, at[1] * image.height
        ImageDraw.Draw(image).text(place, text, fill=color, font=ImageFont.load_default(size=24))
        return np.asarray(image)

    return write


def _filled(level: int) -> Callable[[np.ndarray], np.ndarray]:
    """The missing end of a truncated file, as a tolerant reader fills it."""

    def fill(pixels: np.ndarray) -> np.ndarray:
        filled = pixels.copy()
        filled[8 * (len(pixels) // 14) :] = level
        return filled

    return fill


def _letterboxed(pixels: np.ndarray) -> np.ndarray:
    """Made square with bars above and below, as many collections are."""
    bar = (pixels.shape[1] - len(pixels)) // 2
    return cv2.copyMakeBorder(pixels, bar, bar, 0, 0, cv2.BORDER_CONSTANT)


FAULTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "black": ("blank", lambda pixels: np.zeros_like(pixels)),
    "white": ("blank", lambda pixels: np.full_like(pixels, 255)),
    "blurred": ("blurred", _blurred),
    "moved": ("blurred", _moved),
    "a fifth of the light": ("dark", _exposed(0.2)),
    "left half black": ("dark", lambda pixels: pixels * (np.arange(WIDTH) > WIDTH // 2).astype(np.uint8)[:, None]),
    "three times the light": ("overexposed", _exposed(3.0)),
    "twelve times the light": ("overexposed", _exposed(12.0)),
    "a tenth of the light": ("dark", _exposed(0.1)),
    "right half cut off": ("cut", lambda pixels: pixels[:, : WIDTH // 2]),
    "upper part cut off": ("cut", lambda pixels: pixels[int(0.42 * len(pixels)) :]),
    "thumbnail": ("too_small", lambda pixels: cv2.resize(pixels, None, fx=0.3, fy=0.3)),
    "small in its frame": ("too_small", lambda pixels: cv2.copyMakeBorder(
        cv2.resize(pixels, None, fx=0.3, fy=0.3), 99, 99, 99, 99, cv2.BORDER_CONSTANT)),
    "gray": ("gray", _grey),
    "sepia": ("gray", _sepia),
    "filled with gray below": ("truncated", _filled(128)),
    "filled with black below": ("truncated", _filled(0)),
    "name in the margin": ("burned_in_text", _written("DOE, JANE 1960", (0.02, 0.02), (255, 255, 255))),
    "name on the retina": ("burned_in_text", _written("DOE, JANE 1960", (0.35, 0.55), (255, 255, 255))),
    "green number": ("burned_in_text", _written("ID 2345678", (0.35, 0.7), (0, 255, 0))),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, eyes: list[np.ndarray], tmp_path: Path) -> None:
    kind, spoil = FAULTS[fault]
    for pixels in eyes:
        assert kind in _kinds(scan_photo(_saved(spoil(pixels), tmp_path), "eye.jpg").record)


def _noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (400, 500, 3), np.uint8)


def _page(rng: np.random.Generator) -> np.ndarray:
    page = np.full((600, 800, 3), 255, np.uint8)
    for line in range(18):
        words = "".join(rng.choice(list("abcdefgh "), 40))
        cv2.putText(page, words, (20, 40 + 30 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (20, 20, 20), 2)
    return page


def _scan(rng: np.random.Generator) -> np.ndarray:
    """Bright layers on a dark ground, gray: like a slice of OCT."""
    down, across = np.arange(400)[:, None] / 400, np.arange(600) / 600
    light = sum(
        height * np.exp(-(((down - at - 0.03 * np.sin(3 * across)) / 0.02) ** 2))
        for at, height in ((0.4, 200), (0.55, 120))
    )
    return np.repeat(
        np.clip(light + 25 + 8 * rng.standard_normal((400, 600)), 0, 255).astype(np.uint8)[..., None], 3, 2
    )


def _meadow(rng: np.random.Generator) -> np.ndarray:
    """Green below, blue above, in a round frame: a disk alone is no retina."""
    picture = np.full((400, 400, 3), (90, 140, 230), np.uint8)
    picture[180:] = (60, 150, 40)
    picture = np.clip(picture + 12 * rng.standard_normal((400, 400, 1)), 0, 255).astype(np.uint8)
    rows, columns = np.ogrid[:400, :400]
    picture[np.hypot(rows - 200, columns - 200) > 190] = 0
    return picture


def _boxes(rng: np.random.Generator) -> np.ndarray:
    """Objects of many colors in front of a warm wall."""
    picture = np.full((400, 600, 3), (190, 180, 165), np.uint8)
    for _ in range(30):
        left, top, wide, high = (int(value) for value in rng.integers((0, 0, 20, 20), (500, 330, 120, 90)))
        picture[top : top + high, left : left + wide] = rng.integers(20, 240, 3)
    return cv2.GaussianBlur(picture, (0, 0), 1)


@pytest.mark.parametrize("draw", [_noise, _page, _scan, _meadow, _boxes])
def test_what_is_no_fundus_is_reported(draw: Callable[[np.random.Generator], np.ndarray], tmp_path: Path) -> None:
    assert "not_fundus" in _kinds(scan_photo(_saved(draw(np.random.default_rng(1)), tmp_path), "x.jpg").record)


@pytest.mark.parametrize("style", STYLES)
def test_a_good_photo_of_any_camera_has_no_finding(style: str, tmp_path: Path) -> None:
    for seed in (11, 12):
        eye = draw_eye(seed, width_px=WIDTH, style=STYLES[style])
        assert _kinds(scan_photo(_saved(eye.pixels, tmp_path), "eye.jpg").record) == []


def test_being_small_is_not_being_blurred(tmp_path: Path) -> None:
    """At 400 px, like EyePACS's copies, and cropped by a tenth, a sharp photo stays sharp and whole."""
    pixels = draw_eye(5, width_px=1440).pixels
    small = cv2.resize(pixels, (480, 319), interpolation=cv2.INTER_AREA)
    assert _kinds(scan_photo(_saved(small, tmp_path), "eye.jpg").record) == []
    height, width = pixels.shape[:2]
    cropped = pixels[height // 20 : -height // 20, width // 20 : -width // 20]
    assert _kinds(scan_photo(_saved(cropped, tmp_path), "eye.jpg").record) == []


def test_bars_that_make_a_photo_square_are_nothing_cut(eyes: list[np.ndarray], tmp_path: Path) -> None:
    assert _kinds(scan_photo(_saved(_letterboxed(eyes[0]), tmp_path), "eye.jpg").record) == []


def test_damaged_files_are_reported_by_their_code(eyes: list[np.ndarray], tmp_path: Path) -> None:
    whole = _saved(eyes[0], tmp_path).read_bytes()
    contents = {"half.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "text.jpg": b"no photo", "last.jpg": whole[:-1]}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    records = [scan_photo(tmp_path / name, name).record for name in [*contents, "absent.jpg"]]
    found = {one.files[0]: (one.kind, one.severity, one.evidence["code"]) for one in photo_checks.examine(records)}
    assert found == {
        "half.jpg": ("truncated", "error", "E_TRUNCATED"),
        "last.jpg": ("truncated", "error", "E_TRUNCATED"),
        "empty.jpg": ("unreadable", "error", "E_EMPTY"),
        "text.jpg": ("unreadable", "error", "E_FORMAT"),
        "absent.jpg": ("unreadable", "error", "E_NOT_FOUND"),
    }


def test_a_turned_photo_is_reported_and_measured_upright(eyes: list[np.ndarray], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(eyes[0]).copy()).save(tmp_path / "turned.jpg", quality=92, exif=exif)
    record = scan_photo(tmp_path / "turned.jpg", "turned.jpg").record
    assert _kinds(record) == ["orientation"]
    assert (record.width, record.height) == (WIDTH, eyes[0].shape[0])


def _record(name: str, size: tuple[int, int] = (1440, 956), left: float = 0.0) -> Record:
    measures = {"left": left, "right": 0.0, "top": 0.16, "bottom": 0.16, "seen": 0.92 - 0.5 * left, "rim": 1.0}
    light = {"brightness": 150.0, "spread": 100.0, "dark": 0.0, "full": 0.0, "washed": 0.0, "contrast": 90.0}
    color = {"off_color": 0.0, "tints": 0.4, "red": 150.0, "green": 80.0, "blue": 40.0, "outside": 2.0, "chroma": 120.0}
    return Record(name, width=size[0], height=size[1], field_of_view=(700.0, 478.0, 570.0),
                  measures=_usual() | measures | light | color | {"diameter_px": 1140.0})  # fmt: skip


@cache
def _usual() -> dict[str, float]:
    """The measures of a good photo."""
    pixels = draw_eye(17, width_px=WIDTH).pixels
    return measure_all(pixels, small_frame(frame(pixels, FRAME_PX), pixels))


def test_odd_sizes_are_one_finding_that_names_them() -> None:
    records = [_record(f"photos/{number:03d}.jpg") for number in range(60)]
    records += [_record("photos/odd.jpg", (640, 480)), _record("elsewhere/other.jpg", (640, 480))]
    (one,) = photo_checks.examine(records)
    assert (one.kind, one.files, one.evidence["odd_sizes"]) == ("mixed_sizes", ("photos/odd.jpg",), {"640 x 480": 1})


def test_a_cut_that_a_whole_set_shares_is_reported_once() -> None:
    alike = list(photo_checks.examine(_record(f"{number}.jpg", left=0.4) for number in range(20)))
    assert [(one.kind, one.severity, len(one.files)) for one in alike] == [("cut", "info", 20)]
    single = list(photo_checks.examine(_record(f"{number}.jpg", left=0.4 * (number == 7)) for number in range(20)))
    assert [(one.kind, one.severity, one.files) for one in single] == [("cut", "warning", ("7.jpg",))]


def test_real_photos_of_a_good_clinic_pass(shared: Path) -> None:
    """HEI-MED's and DIARETDB1's first photos: real, sharp, of two cameras."""
    paths = [*sorted((shared / "heimed/images").iterdir())[10:16], *sorted((shared / "diaretdb1/images").iterdir())[:6]]
    assert [one.files for path in paths for one in photo_checks.examine([scan_photo(path, path.name).record])] == []


def test_photos_that_were_rejected_by_graders_are_found(shared: Path) -> None:
    rejected = ("10464_left", "11182_left", "11182_right", "11196_left", "10623_left", "10694_right")
    for name in rejected:
        path = shared / f"eyepacs400/images/{name}.jpg"
        assert {"dark", "blurred"} & set(_kinds(scan_photo(path, path.name).record)), name


def test_nothing_of_the_photo_is_changed(eyes: list[np.ndarray], tmp_path: Path) -> None:
    path = _saved(eyes[0], tmp_path)
    before = path.read_bytes()
    record = scan_photo(path, "eye.jpg").record
    assert path.read_bytes() == before
    assert record == Record.from_json(record.to_json())
    assert (record.width, record.height) == (WIDTH, eyes[0].shape[0])
    assert Photo.open(path).width == record.width
