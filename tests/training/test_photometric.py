"""Colors change as light and cameras change them; the black around the eye and the order of brightness do not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from funduscope.settings import Augment
from funduscope.training.augment import recolor

CALM = Augment(brightness=0, contrast=0, gamma=0, color=0, blur=0, noise=0, jpeg=0)
LUMA = np.array([0.299, 0.587, 0.114])
CAMERA = ("blur", "noise", "sensor_noise", "multiplicative_noise", "jpeg")


def _eye() -> np.ndarray:
    image = np.zeros((64, 64, 3), np.uint8)
    cv2.circle(image, (32, 32), 22, (180, 90, 40), -1)
    return image


def _only(**changes: float) -> Augment:
    return CALM.model_copy(update=changes)


def _light(levels: np.ndarray) -> np.ndarray:
    """The light that sRGB's levels stand for, 0..1."""
    value = np.asarray(levels, np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def test_colors_change_but_black_stays_black() -> None:
    rng = np.random.default_rng(6)
    image = _eye()
    bounds = _only(brightness=0.5, contrast=0.5, gamma=0.5, color=0.3, saturation=0.5)
    seen = set()
    for _ in range(30):
        changed = recolor(image, bounds, rng)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        assert (changed[image.max(axis=2) == 0] == 0).all()
        seen.add(tuple(changed[32, 32]))
    assert len(seen) > 20


def test_colors_keep_their_order() -> None:
    """A brighter pixel never becomes the darker one: exudates stay bright, blood stays dark."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    rng = np.random.default_rng(7)
    for _ in range(30):
        table = recolor(ramp, Augment(blur=0, noise=0, jpeg=0), rng)[0].astype(int)
        assert (np.diff(table, axis=0) >= 0).all()
        brightness = recolor(ramp, Augment(saturation=0.5, blur=0, noise=0, jpeg=0), rng)[0] @ LUMA
        assert (np.maximum.accumulate(brightness) - brightness).max() <= 1, "but for rounding"


def test_compression_takes_red_for_red() -> None:
    """A JPEG keeps fine detail by its brightness: of a red pattern more than of a blue one, which looks darker."""
    stripes = np.where(np.indices((64, 64)).sum(0) % 2, 60, 200).astype(np.uint8)
    kept = []
    for channel in (0, 2):
        image = np.full((64, 64, 3), 120, np.uint8)
        image[..., channel] = stripes
        squeezed = recolor(image, _only(jpeg=1), np.random.default_rng(3))
        assert squeezed.flags["C_CONTIGUOUS"], "a tensor is made of it"
        kept.append(float(squeezed[..., channel].std()))
    assert kept[0] > 2 * kept[1]


def test_a_small_copy_has_the_detail_of_a_small_photo_and_the_same_size() -> None:
    """Dots of one pixel fade; a field that is no wider than the smallest copies keeps them."""
    dots = np.full((96, 96, 3), 120, np.uint8)
    dots[::8, ::8] = 20
    random = np.random.default_rng(2)
    copies = [recolor(dots, _only(small_copy=1), random, 1440) for _ in range(20)]
    darkest = [int(copy[8:-8, 8:-8].min()) for copy in copies]
    assert all(copy.shape == dots.shape for copy in copies)
    assert min(darkest) < 70 < 100 < max(darkest), "copies of all widths are drawn"
    assert max(int(abs(copy.mean(dtype=float) - dots.mean())) for copy in copies) <= 2
    np.testing.assert_array_equal(recolor(dots, _only(small_copy=1), random, 400), dots)


def test_with_every_bound_at_zero_nothing_changes() -> None:
    image = np.random.default_rng(8).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert np.abs(recolor(image, CALM, np.random.default_rng(0)).astype(int) - image).max() <= 1


def test_tone_comes_as_often_as_the_recipe_says() -> None:
    rng = np.random.default_rng(1)
    image = _eye()
    for probability, low, high in ((0.0, 0, 0), (0.3, 60, 120), (1.0, 300, 300)):
        bounds = _only(brightness=0.3, contrast=0.3, saturation=0.3, tone=probability)
        changed = sum(not np.array_equal(recolor(image, bounds, rng), image) for _ in range(300))
        assert low <= changed <= high


def test_saturation_pales_and_deepens_and_leaves_grays_and_brightness_alone() -> None:
    rng = np.random.default_rng(2)
    colored, gray = np.full((4, 4, 3), (150, 110, 80), np.uint8), np.full((4, 4, 3), 120, np.uint8)
    spans = []
    for _ in range(40):
        changed = recolor(colored, _only(saturation=0.5), rng)[0, 0].astype(float)
        assert abs(changed @ LUMA - colored[0, 0] @ LUMA) < 1.5
        spans.append(changed.max() - changed.min())
        assert np.abs(recolor(gray, _only(saturation=0.5), rng).astype(int) - 120).max() <= 1
    assert min(spans) < 50
    assert max(spans) > 90
    assert min(spans) >= 34
    assert max(spans) <= 106


@pytest.mark.parametrize("kind", CAMERA)
def test_what_cameras_do_keeps_shape_type_and_colors(kind: str) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 190, 90, 30
    rng = np.random.default_rng(9)
    for _ in range(10):
        changed = recolor(image, _only(**{kind: 1.0}), rng)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        allowed = 0.1 * image[0, 0] + 1 if kind == "multiplicative_noise" else 4
        assert (np.abs(changed.reshape(-1, 3).mean(0) - (190, 90, 30)) < allowed).all(), "red is still red"


@pytest.mark.parametrize("kind", CAMERA)
def test_each_comes_as_often_as_the_recipe_says(kind: str) -> None:
    rng = np.random.default_rng(3)
    image = np.random.default_rng(4).integers(40, 200, (16, 16, 3)).astype(np.uint8)
    for probability, low, high in ((0.0, 0, 0), (0.3, 60, 120), (1.0, 297, 300)):
        changed = sum(not np.array_equal(recolor(image, _only(**{kind: probability}), rng), image) for _ in range(300))
        assert low <= changed <= high


def test_sensor_noise_grows_with_the_light_as_counted_photons_do() -> None:
    """The variance of the light is the light over what a pixel counts at white: the same ratio at every level."""
    levels = np.array([40, 60, 90, 130, 180])
    image = np.repeat(np.repeat(levels.astype(np.uint8)[:, None, None], 4000, axis=1), 3, axis=2)
    deepest = []
    for seed in range(12):
        light = _light(recolor(image, _only(sensor_noise=1.0), np.random.default_rng(seed)))
        variance = light.reshape(len(levels), -1).var(axis=1)
        assert (np.diff(variance) > 0).all()
        ratio = variance / _light(levels)
        assert ratio.max() / ratio.min() < 1.35
        deepest.append(ratio.mean())
    assert max(deepest) > 2.5 * min(deepest), "cameras differ"
    assert min(deepest) > 1 / 5500
    assert max(deepest) < 2 / 450


def test_sensor_noise_has_a_coarse_part_that_is_color_alone() -> None:
    """Averages over four by four pixels differ more between the channels than noise of single pixels would let them."""
    image = np.full((256, 256, 3), 120, np.uint8)

    def coarse(kind: str, seed: int) -> tuple[float, float]:
        noise = recolor(image, _only(**{kind: 1.0}), np.random.default_rng(seed)).astype(float)
        noise -= noise.mean(axis=(0, 1))
        blocks = noise.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
        gray = np.tile(blocks.mean(axis=2, keepdims=True), 3)
        return float((blocks - gray).std() / noise.std()), float(gray.std() / noise.std())

    color, gray = np.mean([coarse("sensor_noise", seed) for seed in range(8)], axis=0)
    plain_color, plain_gray = np.mean([coarse("noise", seed) for seed in range(8)], axis=0)
    assert color > 1.3 * plain_color
    assert gray < 1.1 * plain_gray


def test_a_dark_border_has_no_sensor_or_multiplicative_noise() -> None:
    image = _eye()
    for kind in ("sensor_noise", "multiplicative_noise"):
        for seed in range(6):
            changed = recolor(image, _only(**{kind: 1.0}), np.random.default_rng(seed))
            assert (changed[image.max(axis=2) == 0] == 0).all()
            assert (changed != image).any()


def test_multiplicative_noise_is_a_factor_a_pixel_or_a_channel() -> None:
    image = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    kinds = []
    for seed in range(20):
        factor = recolor(image, _only(multiplicative_noise=1.0), np.random.default_rng(seed)) / image
        assert factor.min() >= 0.9 - 0.011
        assert factor.max() <= 1.1 + 0.011
        by_channel = np.ptp(factor, axis=(0, 1)).max() == 0
        if not by_channel:
            assert np.ptp(factor, axis=2).max() <= 0.016, "a pixel's channels share its factor, up to rounding"
        kinds.append(by_channel)
    assert 4 <= sum(kinds) <= 16


def test_the_same_seed_colors_the_same_and_another_another() -> None:
    bounds = Augment(saturation=0.2, **dict.fromkeys(CAMERA, 1.0))
    one, again, other = (recolor(_eye(), bounds, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def _first_recolor(image: np.ndarray, bounds: Augment, rng: np.random.Generator) -> np.ndarray:
    """The color pass of the first published recipe as it was then, but for its JPEGs, which took red for blue, and
    its noise, which took half a level from the light."""
    ramp = np.linspace(0, 1, 256) ** np.exp(rng.uniform(-bounds.gamma, bounds.gamma))
    gain = 1 + rng.uniform(-bounds.brightness, bounds.brightness)
    contrast = 1 + rng.uniform(-bounds.contrast, bounds.contrast)
    tint = 1 + rng.uniform(-bounds.color, bounds.color, 3)
    table = ((ramp[:, None] - 0.35) * contrast + 0.35) * gain * tint
    table = np.clip(table - table[0] * (1 - ramp[:, None]), 0, 1)
    image = np.dstack([np.rint(table * 255).astype(np.uint8)[image[..., c], c] for c in range(3)])
    if rng.random() < bounds.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < bounds.noise:
        image = np.rint(np.clip(image + rng.normal(0, rng.uniform(2, 8), image.shape), 0, 255)).astype(np.uint8)
    if rng.random() < bounds.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 90))]
        squeezed = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), quality)[1]
        image = np.asarray(cv2.imdecode(squeezed, cv2.IMREAD_COLOR))[..., ::-1]
    return image


def test_a_recipe_without_the_newer_ones_sees_what_it_always_saw() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    for seed in range(80):
        before, now = np.random.default_rng(seed), np.random.default_rng(seed)
        expected, changed = _first_recolor(image, Augment(), before), recolor(image, Augment(), now)
        assert np.abs(changed.astype(int) - expected).max() <= 1
        assert now.random() == before.random(), "as many numbers were drawn"
