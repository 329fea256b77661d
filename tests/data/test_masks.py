"""Every encoding that the data sets and people use for masks gives the same mask, and a broken one says so."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from funduscope.data.case import ABSENT, LabelError, Mask
from funduscope.data.masks import read_mask, read_votes, size_of
from funduscope.imaging.photo import Photo


@pytest.fixture
def drawn() -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:22] = True
    return mask


def _red_palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8), "L").copy()
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    return image


def _opaque(mask: np.ndarray) -> Image.Image:
    planes = np.zeros((*mask.shape, 4), np.uint8)
    planes[mask, 0] = 255
    planes[..., 3] = 255
    return Image.fromarray(planes, "RGBA")


def _on_white(mask: np.ndarray) -> Image.Image:
    planes = np.full((*mask.shape, 3), 255, np.uint8)
    planes[mask] = (200, 30, 30)
    return Image.fromarray(planes)


def _two_colors(*colors: int) -> Callable[[np.ndarray], Image.Image]:
    def draw(mask: np.ndarray) -> Image.Image:
        image = Image.fromarray(mask.astype(np.uint8), "L").copy()
        image.putpalette([*colors, *[0] * 762])
        return image

    return draw


ENCODINGS = {
    "white.png": _on_white,
    "black_on_white.png": lambda mask: Image.fromarray(~mask).convert("RGB"),
    "black_on_white_gray.png": lambda mask: Image.fromarray(~mask).convert("L"),
    "black_on_white_bits.png": lambda mask: Image.fromarray(~mask),
    "black_on_white_palette.png": _two_colors(255, 255, 255, 0, 0, 0),
    "white_palette.png": _two_colors(255, 255, 255, 200, 30, 30),
    "viridis.png": _two_colors(68, 1, 84, 253, 231, 37),
    "palette.tif": _red_palette,
    "alpha.tif": _opaque,
    "rgb.tif": lambda mask: _opaque(mask).convert("RGB"),
    "gray.png": lambda mask: Image.fromarray(mask.astype(np.uint8) * 255, "L"),
    "dim.png": lambda mask: Image.fromarray(mask.astype(np.uint8) * 76, "L"),
    "ones.png": lambda mask: Image.fromarray(mask.astype(np.uint8), "L"),
    "bits.png": Image.fromarray,
    "gray_alpha.png": lambda mask: _opaque(mask).convert("LA"),
    "deep.png": lambda mask: Image.fromarray(mask.astype(np.uint16) * 300),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_gives_the_same_mask(name: str, drawn: np.ndarray, tmp_path: Path) -> None:
    ENCODINGS[name](drawn).save(tmp_path / name)
    read = read_mask(tmp_path / name)
    assert read.dtype == bool
    assert np.array_equal(read, drawn)


def test_a_mask_that_marks_nothing_is_no_absence(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "IDRiD_01_EX.tif")
    files = (tmp_path / "IDRiD_01_EX.tif",)
    with pytest.raises(LabelError, match=r"IDRiD_01_EX\.tif marks nothing"):
        Mask(files, read_mask).load(8, 8)
    assert Mask(files, read_mask, "unknown").load(8, 8) is None
    absent = Mask(files, read_mask, "absent").load(8, 8)
    assert absent is not None
    assert not absent.any()


def test_unreadable_masks_name_the_file(drawn: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(drawn).convert("L").save(tmp_path / "lossy.jpg")
    Image.effect_noise((30, 20), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    for name in ("lossy.jpg", "cut.png", "missing.png"):
        with pytest.raises(LabelError, match=name):
            read_mask(tmp_path / name)


@pytest.mark.parametrize("white_is_zero", [True, False])
def test_a_mask_of_one_bit_marks_the_lesion_whatever_stands_for_white(
    white_is_zero: bool, drawn: np.ndarray, tmp_path: Path
) -> None:
    """tifffile stores a bool array as ones where 0 is white; other programs mean what they show white."""
    path = tmp_path / "bool.tif"
    stored = drawn > 0
    assert 0 < stored.mean() < 0.5
    shown = Image.fromarray(~stored if white_is_zero else stored)
    shown.save(path, tiffinfo={262: 0 if white_is_zero else 1}, compression="raw")
    np.testing.assert_array_equal(read_mask(path), stored)
    Image.fromarray(np.ones_like(stored)).save(path, tiffinfo={262: 0}, compression="raw")
    assert not read_mask(path).any() or read_mask(path).all()


def test_a_mask_of_another_size_than_its_photo_is_refused(drawn: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(drawn).save(tmp_path / "small.png")
    with pytest.raises(LabelError, match=r"small\.png is 30x20 px, its photo 60x40 px"):
        Mask((tmp_path / "small.png",), read_mask).load(40, 60)


def test_several_files_are_united_and_absence_is_empty(drawn: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(drawn).save(tmp_path / "a.png")
    Image.fromarray(np.roll(drawn, 7, axis=0)).save(tmp_path / "b.png")
    both = Mask((tmp_path / "a.png", tmp_path / "b.png"), read_mask).load(20, 30)
    assert np.array_equal(both, drawn | np.roll(drawn, 7, axis=0))
    assert not ABSENT.load(20, 30).any()


def test_votes_count_experts(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 60], [120, 240]], np.uint8)).save(tmp_path / "votes.png")
    votes = read_votes(tmp_path / "votes.png", 2, 2)
    assert votes.dtype == np.uint8
    assert votes.tolist() == [[0, 1], [2, 4]]
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(LabelError, match=r"mask\.png must be .* 60, 120"):
        read_votes(tmp_path / "mask.png", 1, 2)
    with pytest.raises(LabelError, match=r"mask\.png are 2x1 px, their photo 4x3 px"):
        read_votes(tmp_path / "mask.png", 3, 4)


def test_sizes_are_those_of_the_upright_photo(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("photo.jpg", "photo.png", "photo.tif"):
        Image.new("RGB", (30, 20)).save(tmp_path / name, exif=turned)
        assert size_of(tmp_path / name) == (30, 20), name
    with pytest.raises(LabelError, match=r"none\.jpg cannot be opened"):
        size_of(tmp_path / "none.jpg")


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_what_no_viewer_takes_for_an_orientation_turns_neither_photo_nor_mask(kind: str, tmp_path: Path) -> None:
    """Pillow turns images by XMP data, and by an EXIF block that ImageMagick wrote as a PNG's text."""
    shown, file, texts = np.zeros((300, 400), np.uint8), tmp_path / f"eye.{kind.lower()}", PngInfo()
    shown[30:90, 40:70] = 255
    turned = Image.Exif()
    turned[0x0112] = 6
    block = b"Exif\0\0" + turned.tobytes().removeprefix(b"Exif\0\0")
    texts.add_text("Raw profile type exif", f"\nexif\n{len(block):8d}\n{block.hex()}\n", zip=True)
    how = {"PNG": {"pnginfo": texts}, "JPEG": {"xmp": XMP, "quality": 95}, "TIFF": {"tiffinfo": {700: XMP}}}[kind]
    Image.fromarray(shown).convert("RGB").save(file, kind, **how)
    with Image.open(file) as image:
        assert ImageOps.exif_transpose(image).size == (300, 400), "Pillow turns it"
    with Image.open(file) as image:
        assert Photo.open(image).pixels.shape[:2] == Photo.open(file).pixels.shape[:2] == size_of(file) == (300, 400)
    with Image.open(file) as image:
        if kind == "JPEG":
            assert Photo.open(image.convert("RGB")).pixels.shape[:2] == (300, 400), "what is made of it neither"
        else:
            assert np.array_equal(read_mask(file), shown > 0)


def test_an_orientation_behind_a_png_s_pixels_counts_for_photo_size_and_mask(tmp_path: Path) -> None:
    shown, file, turned, texts = np.zeros((400, 300), np.uint8), tmp_path / "eye.png", Image.Exif(), PngInfo()
    shown[30:90, 40:70] = 255
    turned[0x0112] = 6
    exif = b"eXIf" + turned.tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(exif) - 4).to_bytes(4, "big") + exif + zlib.crc32(exif).to_bytes(4, "big")
    texts.add_text("note", "x" * 2_000_000, zip=True)  # more than Pillow takes by itself
    for how, mode in (({"pnginfo": texts}, "RGB"), ({}, "L")):
        Image.fromarray(np.rot90(shown)).convert(mode).save(file, **how)
        file.write_bytes(file.read_bytes()[:-12] + chunk + file.read_bytes()[-12:])
        assert size_of(file) == (400, 300)
        if mode == "RGB":
            assert Photo.open(file).pixels.shape[:2] == (400, 300)
    assert np.array_equal(read_mask(file), shown > 0)


def test_a_mask_that_is_damaged_in_any_way_is_named(drawn: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    Image.fromarray(drawn.astype(np.uint8) * 255, "L").save(path)
    data = bytearray(path.read_bytes())
    at = data.index((273).to_bytes(2, "little") + b"\x04\0")  # where its pixels lie, as a text
    data[at + 2] = 2
    path.write_bytes(data)
    with pytest.raises(LabelError, match=r"mask\.tif cannot be read"):
        read_mask(path)


def test_a_palette_of_several_colors_on_white_marks_what_is_not_white(drawn: np.ndarray, tmp_path: Path) -> None:
    other = np.roll(drawn, 9, axis=0) & ~drawn
    image = Image.fromarray(drawn.astype(np.uint8) + other.astype(np.uint8) * 2, "L").copy()
    image.putpalette([255, 255, 255, 0, 0, 0, 0, 160, 0])
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), drawn | other)


@pytest.mark.parametrize("quantized", [True, False])
def test_a_palette_with_white_first_is_no_inverted_mask(quantized: bool, drawn: np.ndarray, tmp_path: Path) -> None:
    """Pillow's own `quantize` may put white at index 0."""
    if quantized:
        image = Image.fromarray(drawn.astype(np.uint8) * 255, "L").convert("RGB").quantize(2)
    else:
        image = Image.fromarray((~drawn).astype(np.uint8), "L").copy()
        image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), drawn)


def test_a_palette_of_black_alone_counts_by_index(drawn: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(drawn.astype(np.uint8), "L").copy()
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), drawn)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_turned_tiff_is_upright(compression: str, drawn: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    stored = Image.fromarray(np.rot90(drawn).astype(np.uint8) * 255, "L")
    stored.save(path, compression=compression, tiffinfo={0x0112: 6})
    assert size_of(path) == drawn.shape
    assert np.array_equal(read_mask(path), drawn)
