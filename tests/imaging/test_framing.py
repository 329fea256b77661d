"""The eye is found wherever it lies; frames are cut from it once; the way back is exact."""

from __future__ import annotations

import io
import time
import tracemalloc
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from research.not_fundus.surroundings import SURROUNDED, inside, resized

from funduscope.imaging import framing
from funduscope.imaging.framing import CropTransform, FieldOfView, find_field_of_view, frame
from funduscope.imaging.photo import Photo

RETINA = (180, 90, 40)


@cache
def drawn_eye(
    size: tuple[int, int],
    circle: tuple[float, float, float],
    *,
    retina: tuple[int, int, int] = RETINA,
    surround: int = 0,
    grain: float = 0.0,
    tilt: float = 0.3,
) -> np.ndarray:
    """A fundus photo: a shaded disc with optic disc, vessels and the camera's notch, on a surround with grain."""
    (width, height), (x, y, radius) = size, circle
    rows, columns = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(columns - x, rows - y)
    cover = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    shade = np.clip((1 - 0.4 * (distance / radius) ** 2) * (1 + tilt * (columns - x) / radius), 0.05, 2)[..., None]
    image = shade * np.array(retina) * cover + (1 - cover) * surround
    cv2.circle(image, (round(x - 0.4 * radius), round(y)), round(0.14 * radius), (250, 220, 150), -1)
    notch = round(x + 0.72 * radius), round(y - 0.62 * radius)
    cv2.rectangle(image, notch, (notch[0] + round(0.05 * radius), notch[1] + round(0.05 * radius)), retina, -1)
    random = np.random.default_rng(0)
    for _ in range(6):
        turns = np.cumsum(random.normal(0, 0.12, (6, 2)), axis=0) * radius + (x - 0.4 * radius, y)
        cv2.polylines(image, [turns.astype(np.int32)], False, (90, 30, 20), max(1, round(0.012 * radius)))
    drawn = np.clip(image + random.normal(0, 1, image.shape) * max(grain, 2.0), 0, 255).astype(np.uint8)
    drawn.setflags(write=False)  # every test that asks for it has this one
    return drawn


GEOMETRIES = {
    "cut at top and bottom": ((1200, 800), (560, 400, 480)),
    "cut left and right": ((1024, 1024), (500, 512, 612)),
    "cut on all sides": ((800, 800), (400, 400, 510)),
    "full circle": ((700, 700), (350, 350, 330)),
    "full circle, off center": ((900, 700), (330, 360, 310)),
    "wide border": ((1600, 1200), (800, 600, 250)),
    "portrait": ((600, 900), (300, 470, 280)),
    "small photo": ((256, 256), (128, 128, 120)),
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("surround", "grain"), [(0, 0), (0, 15), (25, 6), (70, 6), (90, 15), (255, 0)])
def test_the_eye_is_found(geometry: str, surround: int, grain: float) -> None:
    size, circle = GEOMETRIES[geometry]
    field_of_view = find_field_of_view(drawn_eye(size, circle, surround=surround, grain=grain))
    assert field_of_view is not None
    assert (
        np.abs(np.subtract((field_of_view.x_px, field_of_view.y_px, field_of_view.radius_px), circle)).max()
        < 0.01 * circle[2]
    )


@pytest.mark.parametrize("geometry", list(GEOMETRIES)[:5])
def test_dark_and_unevenly_lit_eyes_are_found(geometry: str) -> None:
    size, circle = GEOMETRIES[geometry]
    field_of_view = find_field_of_view(drawn_eye(size, circle, retina=(60, 35, 20), tilt=0.6))
    assert field_of_view is not None
    assert (
        np.abs(np.subtract((field_of_view.x_px, field_of_view.y_px, field_of_view.radius_px), circle)).max()
        < 0.02 * circle[2]
    )


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (120, 60, 30)])
@pytest.mark.parametrize("grain", [0, 4])
def test_nothing_is_found_where_nothing_is(color: tuple[int, int, int], grain: float) -> None:
    noise = np.random.default_rng(0).normal(0, grain, (600, 800, 3))
    empty = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
    assert find_field_of_view(empty) is None
    framed = frame(empty, 64)
    assert framed.field_of_view is None
    assert framed.transform == CropTransform(0, -100, 800, 64, 800, 600)


def test_a_photo_filled_with_retina_is_taken_whole() -> None:
    field_of_view = find_field_of_view(drawn_eye((600, 400), (300, 200, 900)))
    assert field_of_view == FieldOfView(300, 200, 300, is_edgeless=True)


@pytest.mark.parametrize("way", SURROUNDED)
def test_the_eye_is_found_in_what_surrounds_it(way: str) -> None:
    """On a screen, a page, in a frame, under words; nothing of the surroundings is in the frame."""
    for geometry in ("cut at top and bottom", "full circle, off center"):
        size, circle = GEOMETRIES[geometry]
        for seed in range(3):
            eye = drawn_eye(size, circle, surround=0)
            picture, true = SURROUNDED[way](eye, FieldOfView(*circle), np.random.default_rng(seed))
            framed = frame(picture, 200)
            found = framed.field_of_view
            assert found is not None
            assert not found.is_one_of_several
            off = np.subtract((found.x_px, found.y_px, found.radius_px), (true.x_px, true.y_px, true.radius_px))
            assert np.abs(off).max() < 0.03 * true.radius_px
            corners = framed.image[[0, 0, -1, -1], [0, -1, 0, -1]]
            assert corners.max() < 30, "a page would be bright there"
            points = np.array([[true.x_px, true.y_px]])
            np.testing.assert_allclose(framed.transform.to_photo(framed.transform.to_frame(points)), points)
            assert framed.transform.map_to_photo(np.ones((50, 50), np.float32)).shape == picture.shape[:2]


@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize("geometry", ["cut at top and bottom", "full circle, off center"])
def test_two_eyes_in_one_picture_are_noticed_and_thumbnails_are_none(geometry: str, ground: int) -> None:
    size, circle = GEOMETRIES[geometry]
    eye = drawn_eye(size, circle, surround=0)
    beside, under = np.full((len(eye), 60, 3), ground, np.uint8), np.full((60, eye.shape[1], 3), ground, np.uint8)
    for picture in (np.hstack([eye, beside, eye[:, ::-1]]), np.vstack([eye, under, eye])):
        found = find_field_of_view(picture)
        assert found is not None
        assert found.is_one_of_several
    for picture in (np.hstack([eye, eye]), np.vstack([eye, eye])):  # they touch
        found = find_field_of_view(picture)
        assert found is not None
        assert found.is_one_of_several
    thumbnail = cv2.resize(eye, None, fx=0.3, fy=0.3)
    below = np.full((len(thumbnail) + 30, eye.shape[1], 3), ground, np.uint8)
    below[15:-15, 15 : 15 + thumbnail.shape[1]] = thumbnail
    found = find_field_of_view(np.vstack([eye, below]))
    assert found is not None
    assert not found.is_one_of_several
    assert found.radius_px == pytest.approx(circle[2], rel=0.03)


@pytest.mark.parametrize("folder", ["cameras", "demo", "messidor2", "eyepacs400"])
def test_nothing_is_cut_off_where_the_retina_fills_the_picture(shared: Path, folder: str) -> None:
    """A faint circle there is that of a disc or a vessel, and all around it is retina."""
    files = sorted(file for file in (shared / folder).rglob("*.*") if file.suffix in (".jpg", ".png"))
    for file in files[:: max(1, len(files) // 8)]:
        pixels = Photo.open(file).pixels
        whole = find_field_of_view(pixels)
        assert whole is not None
        left, top = (max(0, int(at - 0.65 * whole.radius_px)) for at in (whole.x_px, whole.y_px))
        side = int(1.3 * whole.radius_px)
        inner = find_field_of_view(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
        assert inner is not None
        assert inner.part is None, file.name


def test_letters_around_the_eye_are_not_in_the_frame() -> None:
    plain = drawn_eye(*GEOMETRIES["full circle"])
    lettered = plain.copy()
    cv2.putText(lettered, "OD 12", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255, 255, 255), 2)
    cv2.putText(lettered, "R", (640, 680), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255, 255, 0), 3)
    bare, cleared = frame(plain, 350), frame(lettered, 350)
    assert bare.transform.part is None
    at = np.hypot(*(np.mgrid[:350, :350] + 0.5 - 175)) / 175
    assert cleared.image[at > 1.01].max() == 0
    np.testing.assert_array_equal(cleared.image[at < 0.98], bare.image[at < 0.98])


@pytest.mark.parametrize("circle", [(400.0, 300.0, 270.0), (391.4, 310.7, 255.5), (420.0, 300.0, 330.0)])
def test_no_rim_of_white_paper_is_in_the_frame(circle: tuple[float, float, float]) -> None:
    """White at the rim resembles exudates."""
    image = frame(Photo.open(drawn_eye((800, 600), circle, surround=255)), 512).image
    at = np.arange(512) + 0.5 - 256
    ring = np.hypot(at[:, None], at) > 0.95 * 256
    assert image[ring][:, 2].max() < 120, "the retina has hardly any blue"


@pytest.mark.parametrize("size_px", [248, 312, 384, 692])
def test_a_probability_of_one_stays_one_in_a_small_photo(size_px: int) -> None:
    """A mean over areas of ones may be larger than one by its rounding."""
    transform = CropTransform(0, 0, size_px, 1440, size_px, size_px)
    assert transform.map_to_photo(np.ones((1440, 1440), np.float32)).max() <= 1


def test_a_part_is_cut_out_of_its_picture() -> None:
    size, circle = GEOMETRIES["full circle"]
    picture, _ = SURROUNDED["on a page"](drawn_eye(size, circle), FieldOfView(*circle), np.random.default_rng(0))
    framed = frame(picture, 128)
    pixels, alone = framed.cut_out(picture)
    assert alone.transform.part is None
    assert pixels.shape == (alone.transform.height_px, alone.transform.width_px, 3)
    np.testing.assert_array_equal(alone.transform.image_to_frame(pixels)[32:96, 32:96], framed.image[32:96, 32:96])
    whole = frame(pixels, 128)
    assert whole.cut_out(pixels)[0] is pixels


def test_the_eye_is_found_quickly() -> None:
    large = cv2.resize(drawn_eye(*GEOMETRIES["cut at top and bottom"]), (4288, 2848))
    times = []
    for _ in range(5):
        start = time.process_time()
        find_field_of_view(large)
        times.append(time.process_time() - start)
    assert min(times) < 0.2  # 0.02 to 0.04 s on an idle core


@pytest.mark.parametrize(("folder", "least", "most"), [
    ("idrid", 0.39, 0.45), ("srahim", 0.38, 0.44), ("heimed", 0.49, 0.51), ("diaretdb1", 0.465, 0.48),
    ("eyepacs400", 0.43, 0.67), ("messidor2", 0.47, 0.5), ("eophtha", 0.3, 0.385), ("cameras", 0.44, 0.48),
    ("demo", 0.44, 0.48),
])  # fmt: skip
def test_real_eyes_are_found(shared: Path, folder: str, least: float, most: float) -> None:
    """The radius as a fraction of the width: tight per camera, as measured and looked at on every photo."""
    files = sorted(file for file in (shared / folder).rglob("*.*") if file.suffix in (".jpg", ".png") and
                   file.parent.name not in ("masks", "votes"))  # fmt: skip
    for file in files[:: max(1, len(files) // 12)]:
        photo = Photo.open(file)
        field_of_view = find_field_of_view(photo.pixels)
        assert field_of_view is not None
        assert least < field_of_view.radius_px / photo.width < most, file.name
        assert not field_of_view.is_one_of_several, file.name


@st.composite
def homes(draw: st.DrawFn) -> CropTransform:
    width, height = draw(st.integers(256, 5000)), draw(st.integers(256, 5000))
    size = draw(st.integers(100, 6000))
    left, top = draw(st.integers(-size + 1, width - 1)), draw(st.integers(-size + 1, height - 1))
    return CropTransform(left, top, size, draw(st.integers(32, 2048)), width, height)


@given(transform=homes(), points=st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1))
@settings(deadline=None)
def test_points_come_home(transform: CropTransform, points: list[tuple[float, float]]) -> None:
    xy = np.array(points)
    assert np.abs(transform.to_photo(transform.to_frame(xy)) - xy).max() < 1e-6
    assert np.abs(transform.to_frame(transform.to_photo(xy)) - xy).max() < 1e-6
    corners = transform.to_photo(np.array([[0, 0], [transform.side_px, transform.side_px]]))
    first = np.array([transform.left_px, transform.top_px])
    assert np.allclose(corners, [first, first + transform.size_px])


@given(
    width=st.integers(256, 900), height=st.integers(256, 900), size=st.integers(200, 1100),
    side=st.integers(96, 640), half=st.booleans(), seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_areas_come_home(width: int, height: int, size: int, side: int, half: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    left, top = (int(random.integers(-size // 3, max(1, edge - 2 * size // 3))) for edge in (width, height))
    transform = CropTransform(left, top, size, side, width, height)
    across = transform.size_px / transform.side_px * random.uniform(64, 90)
    # the disc lies anywhere in what the square shows of the photo, where there is room for it
    edges = ((left, width), (top, height))
    spans = [(max(0, low) + across / 2, min(edge, low + size) - across / 2) for low, edge in edges]
    assume(all(low < high for low, high in spans))
    x, y = (random.uniform(*span) for span in spans)
    rows, columns = np.mgrid[:height, :width] + 0.5
    seen = (columns > left) & (columns < left + size) & (rows > top) & (rows < top + size)
    mask = (np.hypot(columns - x, rows - y) < across / 2) & seen
    covered = transform.map_to_frame(mask)
    assert covered.shape == (side, side)
    assert covered.dtype == np.float32
    assert covered.min() >= 0
    assert covered.max() <= 1 + 1e-6
    back = transform.map_to_photo(covered)
    assert back.shape == (height, width)
    assert back.dtype == np.float32
    assert not back[~seen].any()
    assert all(np.array_equal(transform.mask_to_photo(covered, level), back >= level) for level in (0.2, 0.9, 1.1))
    assert transform.map_to_photo(np.ones((side // 2, side // 2), np.float32) if half else covered).shape == (
        height,
        width,
    )
    assert ((back >= 0.5) & mask).sum() / ((back >= 0.5) | mask).sum() > 0.98


@given(offset=st.tuples(st.integers(-120, 120), st.integers(-80, 80)), radius=st.integers(150, 330),
       orientation=st.integers(1, 8), side=st.sampled_from([128, 256, 512]))  # fmt: skip
@settings(deadline=None, max_examples=15)
def test_from_file_to_frame_and_back(offset: tuple[int, int], radius: int, orientation: int, side: int) -> None:
    """Whatever way the file is stored, what the frame shows at a point stands there in the upright photo."""
    pixels = drawn_eye((700, 500), (350 + offset[0], 250 + offset[1], radius))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    photo = Photo.open(file.getvalue())
    assert {photo.width, photo.height} == {700, 500}
    framed = frame(photo, side)
    transform = framed.transform
    assert framed.image.shape == (side, side, 3)
    assert (transform.width_px, transform.height_px) == (photo.width, photo.height)
    for channel in range(3):
        back = transform.map_to_photo(framed.image[..., channel].astype(np.float32))
        smooth = cv2.GaussianBlur(photo.pixels[..., channel].astype(np.float32), (0, 0), 2 * transform.px_per_frame_px)
        well_in = transform.map_to_photo(np.pad(np.ones((side - 16, side - 16), np.float32), 8)) > 0.99
        again = cv2.GaussianBlur(back, (0, 0), 2 * transform.px_per_frame_px)
        inner = cv2.erode(well_in.astype(np.uint8), np.ones((41, 41))).astype(bool)
        assert not inner.any() or np.abs(again - smooth)[inner].mean() < 2.0


def test_a_frame_is_cut_and_resized_once() -> None:
    pixels = drawn_eye(*GEOMETRIES["cut at top and bottom"])
    framed = frame(pixels, 480)
    field_of_view = framed.field_of_view
    assert field_of_view is not None
    assert abs(framed.transform.size_px - 2 * field_of_view.radius_px) <= 0.5
    assert abs(framed.transform.left_px - (field_of_view.x_px - field_of_view.radius_px)) <= 0.5
    padded = cv2.copyMakeBorder(pixels, 200, 200, 200, 200, cv2.BORDER_CONSTANT, value=0)
    left, top, size = framed.transform.left_px + 200, framed.transform.top_px + 200, framed.transform.size_px
    cut = padded[top : top + size, left : left + size]
    assert np.array_equal(framed.image, cv2.resize(cut, (480, 480), interpolation=cv2.INTER_AREA))
    assert np.array_equal(frame(pixels, size).image, cut)
    assert frame(pixels, 1500).image.shape == (1500, 1500, 3)


@pytest.mark.parametrize("size", [(900, 300), (300, 900)])
def test_a_large_square_is_made_in_two_steps_of_the_same_result(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = drawn_eye(size, (size[0] / 2, size[1] / 2, 430))
    transform = CropTransform(size[0] // 2 - 470, size[1] // 2 - 470, 940, 160, *size)
    prob = np.random.default_rng(0).random((80, 80), np.float32)
    once = transform.image_to_frame(pixels), transform.map_to_frame(pixels[..., 0] > 90), transform.map_to_photo(prob)
    monkeypatch.setattr(framing, "WHOLE_PX2", 1000)
    twice = transform.image_to_frame(pixels), transform.map_to_frame(pixels[..., 0] > 90), transform.map_to_photo(prob)
    assert np.abs(once[0].astype(int) - twice[0]).max() <= 1
    assert all(np.allclose(one, two, atol=1e-5) for one, two in zip(once[1:], twice[1:], strict=True))


def test_a_wide_photo_takes_no_square_of_memory() -> None:
    transform = CropTransform(0, -4750, 12_000, 96, 12_000, 2500)
    pixels, prob = np.zeros((2500, 12_000, 3), np.uint8), np.ones((96, 96), np.float32)
    tracemalloc.start()
    transform.image_to_frame(pixels)
    transform.map_to_frame(pixels[..., 0])
    transform.mask_to_photo(prob, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6, "12000 x 12000 pixels would be 432 MB of colors, 576 MB of probabilities"


def test_masks_of_any_kind() -> None:
    transform = CropTransform(-10, 20, 300, 100, 320, 340)
    mask = np.zeros((340, 320), bool)
    mask[100:200, 50:150] = True
    expected = transform.map_to_frame(mask)
    assert expected.max() == pytest.approx(1)
    for kind in (np.uint8, np.int32, np.float32, np.float64):
        assert np.array_equal(transform.map_to_frame(mask.astype(kind)), expected)
    assert np.array_equal(transform.map_to_frame(mask.astype(np.uint8) * 76), expected)
    with pytest.raises(ValueError, match=r"\(340, 320\)"):
        transform.map_to_frame(mask[:-1])
    with pytest.raises(ValueError, match="square"):
        transform.map_to_photo(np.zeros((10, 12), np.float32))


def test_no_circle_is_fitted_to_a_disc_or_a_vessel_where_dim_retina_fills_the_photo(shared: Path) -> None:
    """Beyond such a circle the model would see nothing."""
    narrow = 0
    paths = (
        sorted((shared / "diaretdb1/images").glob("*.*"))[::3] + sorted((shared / "eophtha/images").glob("*.*"))[::5]
    )
    for number, path in enumerate(paths):
        whole = resized(Photo.open(path).pixels)
        assert whole is not None
        cut, _ = inside(*whole, np.random.default_rng(number))
        found = find_field_of_view(cut)
        narrow += found is not None and found.radius_px < 0.45 * max(cut.shape[:2])
    assert len(paths) > 30
    assert narrow <= 1
