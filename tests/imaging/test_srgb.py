"""Photos whose file defines other colors than sRGB: read as sRGB; every other photo stays as it is."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from funduscope.imaging.photo import Photo

RAMP = np.linspace(0, 255, 360).astype(np.uint8)
PICTURE = np.dstack(np.broadcast_arrays(RAMP[None, :], RAMP[:300, None], RAMP[None, ::-1])).copy()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# Primaries as columns of XYZ under D50 (W3C, CSS Color 4; ICC specification of the profile's numbers).
TO_XYZ = {
    "sRGB": [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]],
    "Display P3": [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]],
    "Adobe RGB": [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]],
}


def profile(name: str) -> bytes:
    """sRGB's profile with other primaries, and of Adobe RGB its own exponent."""
    data = bytearray(SRGB)
    for entry in range(132, 132 + 12 * int.from_bytes(SRGB[128:132], "big"), 12):
        tag, at = SRGB[entry : entry + 4], int.from_bytes(SRGB[entry + 4 : entry + 8], "big")
        if tag in (b"rXYZ", b"gXYZ", b"bXYZ"):
            column = np.array(TO_XYZ[name])[:, b"rgb".index(tag[:1])]
            struct.pack_into(">3i", data, at + 8, *np.rint(column * 65536).astype(int))
        elif tag == b"rTRC" and name == "Adobe RGB":  # all three tags share it
            struct.pack_into(">4sIHHi", data, at, b"para", 0, 0, 0, round(563 / 256 * 65536))
    return bytes(data)


def as_srgb(pixels: np.ndarray, name: str) -> np.ndarray:
    """What the profile says, computed without it."""
    values = pixels / 255
    light = values ** (563 / 256) if name == "Adobe RGB" else _linear(values)
    xyz = light @ np.array(TO_XYZ[name]).T
    return _encoded(np.clip(xyz @ np.linalg.inv(np.array(TO_XYZ["sRGB"])).T, 0, 1)) * 255


def _linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "image"])
@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB"])
def test_colors_of_an_embedded_profile_become_srgb(name: str, kind: str) -> None:
    image = Image.fromarray(PICTURE)
    data = saved(image, "PNG" if kind == "image" else kind, icc_profile=profile(name))
    stored = Photo.open(saved(image, kind)).pixels if kind == "JPEG" else PICTURE
    photo = Photo.open(Image.open(io.BytesIO(data)) if kind == "image" else data)
    assert np.abs(photo.pixels - as_srgb(stored, name)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("unused", [SRGB, SRGB[:200], b"no profile"], ids=["sRGB", "cut", "nonsense"])
def test_a_profile_of_srgb_and_a_damaged_one_change_nothing(unused: bytes, kind: str) -> None:
    image = Image.fromarray(PICTURE)
    expected = Photo.open(saved(image, kind)).pixels
    assert np.array_equal(Photo.open(saved(image, kind, icc_profile=unused)).pixels, expected)


def with_chunk(png: bytes, name: bytes, payload: bytes) -> bytes:
    """The PNG with a chunk behind its header."""
    file = io.BytesIO()
    PngImagePlugin.putchunk(file, name, payload)
    return png[:33] + file.getvalue() + png[33:]


def with_gamma(png: bytes, gamma: float) -> bytes:
    return with_chunk(png, b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def test_a_png_of_linear_light_becomes_srgb() -> None:
    expected = _encoded(PICTURE / 255) * 255
    linear = with_gamma(saved(Image.fromarray(PICTURE), "PNG"), 1.0)
    for source in (linear, Image.open(io.BytesIO(linear))):
        assert np.abs(Photo.open(source).pixels - expected).max() <= 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_of_linear_light_in_16_bits_keeps_its_dark_levels(channels: int) -> None:
    light = np.tile(np.linspace(0, 1, 300) ** 3, (300, 1))
    sixteen_bits = np.rint(np.dstack([light] * channels) * 65535).astype(np.uint16)
    linear = with_gamma(cv2.imencode(".png", sixteen_bits)[1].tobytes(), 1.0)
    assert np.abs(Photo.open(linear).pixels[..., 0] - _encoded(light) * 255).max() <= 0.51


def test_a_gamma_of_srgb_and_one_beside_an_srgb_chunk_change_nothing() -> None:
    png = saved(Image.fromarray(PICTURE), "PNG")
    for unchanged in (with_gamma(png, 0.45455), with_gamma(png, 0), with_chunk(with_gamma(png, 1.0), b"sRGB", b"\0")):
        for source in (unchanged, Image.open(io.BytesIO(unchanged))):
            assert np.array_equal(Photo.open(source).pixels, PICTURE)
