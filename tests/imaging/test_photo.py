"""The one way in: what is accepted comes in right, everything else is refused with its code, quickly and small."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from funduscope.i18n.errors import HTTP_STATUS, PhotoError
from funduscope.imaging.limits import Limits
from funduscope.imaging.photo import Photo


def drawn(width: int = 360, height: int = 300) -> np.ndarray:
    """A soft picture, different in every corner, that any codec keeps to a level or two."""
    y, x = np.mgrid[:height, :width]
    red = 40 + 200 * x / width
    green = 30 + 180 * y / height
    blue = 120 + 80 * np.sin(x / 40) * np.cos(y / 50)
    return np.dstack([red, green, blue]).astype(np.uint8)


PICTURE = drawn()


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def picture(kind: str = "PNG", mode: str = "RGB", **settings) -> bytes:
    return saved(Image.fromarray(PICTURE).convert(mode), kind, **settings)


def code_of(source, **settings) -> str:
    start = time.process_time()
    with pytest.raises(PhotoError) as caught:
        Photo.open(source, **settings)
    assert time.process_time() - start < 2
    error = caught.value
    assert error.code in HTTP_STATUS
    assert "\n" not in error.says
    assert str(error) == error.says
    return error.code


def outcome(data: bytes) -> str:
    """A code, or "read"; anything but a PhotoError fails the test."""
    try:
        return "read" if Photo.open(data).pixels.dtype == np.uint8 else "wrong"
    except PhotoError as error:
        return error.code


def furthest(photo: Photo, expected: np.ndarray) -> int:
    assert photo.pixels.shape == expected.shape
    return int(np.abs(photo.pixels.astype(int) - expected).max())


@pytest.mark.parametrize(("content", "code"), [
    (b"", "E_EMPTY"),
    (b"\xff", "E_FORMAT"),
    (b"this is a text, named photo.jpg\n" * 50, "E_FORMAT"),
    (b"\xff\xd8", "E_TRUNCATED"),
    (b"\x89PNG\r\n\x1a\n", "E_TRUNCATED"),
    (b"II*\0", "E_TRUNCATED"),
])  # fmt: skip
def test_no_photo_at_all(content: bytes, code: str, tmp_path: Path) -> None:
    assert code_of(content) == code
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)
    assert code_of(file) == code


@pytest.mark.parametrize("start", [
    b"<svg xmlns='http://www.w3.org/2000/svg'>", b"<?xml version='1.0'?><svg>", b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"%PDF-1.7\n", b"8BPS\0\1", b"SIMPLE  =                    T", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"PK\x03\x04",
])  # fmt: skip
def test_other_formats_are_never_opened(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args, **_settings):
        raise AssertionError("a decoder was reached")

    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(cv2, "imdecode", fail)
    assert code_of(start + b" " * 5000) == "E_FORMAT"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "image"])
def test_a_program_that_lets_pillow_fill_truncated_pictures_changes_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As code that trains networks often does."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = picture("JPEG" if kind == "image" else kind)
    cut = data[: int(len(data) * 0.6)]
    with pytest.raises(PhotoError) as caught:
        Photo.open(Image.open(io.BytesIO(cut)) if kind == "image" else cut)
    assert caught.value.code in ("E_TRUNCATED", "E_CORRUPT")
    assert ImageFile.LOAD_TRUNCATED_IMAGES, "the program's own choice"


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    file = tmp_path / "eye.jpg"
    file.write_bytes(picture("PNG"))
    (entry,) = os.scandir(tmp_path)
    for source in (file, str(file), entry):
        photo = Photo.open(source)
        assert furthest(photo, PICTURE) == 0
        assert photo.name == "eye.jpg"
        assert (photo.width, photo.height) == (360, 300)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999, 1.0])
def test_truncation_is_refused_down_to_the_last_byte(kind: str, kept: float) -> None:
    data = picture(kind)
    cut = data[: min(int(len(data) * kept), len(data) - 1)]
    assert code_of(cut) in ("E_TRUNCATED", "E_CORRUPT")
    if kind == "JPEG":
        assert code_of(cut) == "E_TRUNCATED"
        # an end marker put on what is left must not turn the rest gray
        assert kept == 1.0 or code_of(cut + b"\xff\xd9") in ("E_TRUNCATED", "E_CORRUPT")


@pytest.mark.parametrize("progressive", [False, True])
def test_flipped_bits_in_jpegs_are_refused_or_read_and_never_crash(progressive: bool) -> None:
    grain = np.random.default_rng(0).normal(0, 20, (1000, 1300, 3))
    data = saved(Image.fromarray(np.clip(drawn(1300, 1000) + grain, 0, 255).astype(np.uint8)), "JPEG",
                 quality=95, progressive=progressive)  # fmt: skip
    assert len(data) > 800_000
    codes = []
    for seed in range(200):
        damaged = np.frombuffer(data, np.uint8).copy()
        where = np.random.default_rng(seed).integers(0, 8 * len(data), 100)
        np.bitwise_xor.at(damaged, where // 8, (1 << (where % 8)).astype(np.uint8))
        codes.append(outcome(damaged.tobytes()))
    assert set(codes) <= {"read", *HTTP_STATUS}
    assert codes.count("read") <= 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_flipped_bits_elsewhere_never_crash(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = picture(kind, compression="tiff_lzw") if kind == "TIFF" else picture(kind)
    deep = cv2.imencode(".tif" if kind == "TIFF" else ".png", PICTURE.astype(np.uint16) * 257)[1].tobytes()
    for seed in range(150):
        random = np.random.default_rng(seed)
        damaged = bytearray(deep if seed % 3 == 0 else data)
        for where in random.integers(0, min(len(damaged), 600 if seed % 2 else len(damaged)), 4):
            damaged[where] ^= 1 << int(random.integers(8))
        # a PNG's checksums miss nothing; plain TIFFs have none
        assert outcome(bytes(damaged)) in ({*HTTP_STATUS} if kind == "PNG" else {"read", *HTTP_STATUS})
    assert capfd.readouterr().out == ""


def png_of(width: int, height: int, bits: int, color: int, rows: int, row_bytes: int) -> bytes:
    def chunk(name: bytes, payload: bytes) -> bytes:
        return len(payload).to_bytes(4, "big") + name + payload + zlib.crc32(name + payload).to_bytes(4, "big")

    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 + row_bytes)) for _ in range(rows)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, color, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff_of(**tags: int) -> bytes:
    """A little-endian TIFF with one strip of deflated zeros and the given tags (t256=...)."""
    strip = zlib.compress(bytes(100_000))
    entries = {int(name[1:]): value for name, value in tags.items()} | {273: 8, 279: len(strip)}
    directory = len(entries).to_bytes(2, "little")
    for tag, value in sorted(entries.items()):
        directory += tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
    return b"II*\0" + (8 + len(strip)).to_bytes(4, "little") + strip + directory + bytes(4)


def tiff_with(pixels: np.ndarray, *more: tuple[int, int, int], separate: bool = False, color: int = 2) -> bytes:
    """An uncompressed little-endian TIFF of (H, W, C) with further entries (tag, kind, value)."""
    height, width, samples = pixels.shape
    strip = (np.moveaxis(pixels, 2, 0) if separate else pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    entries = [(256, 4, width), (257, 4, height), (259, 3, 1), (262, 3, color), (277, 3, samples),
               (284, 3, 2 if separate else 1), *more]  # fmt: skip
    parts = samples if separate else 1
    at = 8 + len(strip)
    places = struct.pack(f"<{parts}I", *(8 + k * len(strip) // parts for k in range(parts)))
    sizes = struct.pack(f"<{parts}I", *[len(strip) // parts] * parts)
    depths = struct.pack(f"<{samples}H", *[8 * pixels.itemsize] * samples)
    directory = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries]
    for tag, kind, values in ((258, 3, depths), (273, 4, places), (279, 4, sizes)):
        count = len(values) // (2 if kind == 3 else 4)
        inline = values.ljust(4, b"\0") if len(values) <= 4 else at.to_bytes(4, "little")
        directory.append(struct.pack("<HHI", tag, kind, count) + inline)
        if len(values) > 4:
            strip, at = strip + values, at + len(values)
    ordered = sorted(directory, key=lambda entry: struct.unpack_from("<H", entry))
    return b"II*\0" + at.to_bytes(4, "little") + strip + struct.pack("<H", len(ordered)) + b"".join(ordered) + bytes(4)


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * 50_000_000, zip=True)
    return picture("PNG", pnginfo=info)


BOMBS = {
    "one_bit_png": (lambda: png_of(30000, 30000, 1, 0, 30000, 3750), "E_TOO_MANY_PIXELS"),
    "warning_zone_png": (lambda: png_of(12000, 12000, 8, 0, 12000, 12000), "E_TOO_MANY_PIXELS"),
    "deflate_tiff": (lambda: tiff_of(t256=40000, t257=40000, t258=8, t259=8, t262=1, t277=1), "E_TOO_MANY_PIXELS"),
    "tile_tiff": (lambda: tiff_of(t256=300, t257=300, t258=8, t259=8, t262=1, t322=60000, t323=60000), "E_CORRUPT"),
    "text_png": (text_bomb, "E_METADATA"),
}


GROWTH = """
import sys
from pathlib import Path
from funduscope.imaging.photo import Photo
from funduscope.i18n.errors import PhotoError
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
Photo.open(Path(sys.argv[1]))
before = peak()
try:
    Photo.open(Path(sys.argv[2]))
except PhotoError as error:
    print(error.code, peak() - before)
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_before_they_cost_memory(bomb: str, tmp_path: Path) -> None:
    make, code = BOMBS[bomb]
    file, plain = tmp_path / "bomb", tmp_path / "plain"
    file.write_bytes(make())
    assert file.stat().st_size < 1_000_000
    assert code_of(file) == code
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from /proc, which this system lacks")
    plain.write_bytes(picture("PNG"))
    ran = subprocess.run([sys.executable, "-c", GROWTH, plain, file], capture_output=True, text=True, check=True)
    said, grown_kib = ran.stdout.split()
    assert said == code
    assert int(grown_kib) < 50_000


def test_many_pages() -> None:
    page = Image.fromarray(PICTURE)
    five = saved(page, "TIFF", save_all=True, append_images=[page.rotate(90 * k) for k in range(1, 5)])
    assert code_of(five) == "E_MULTIPAGE"
    assert furthest(Photo.open(five, limits=Limits(read_first_page=True)), PICTURE) == 0
    assert code_of(saved(page, "PNG", save_all=True, append_images=[page.rotate(180)])) == "E_MULTIPAGE"
    pair = saved(page, "MPO", save_all=True, append_images=[page.rotate(180)])
    assert code_of(pair) == "E_MULTIPAGE"
    first = Photo.open(pair, limits=Limits(read_first_page=True))
    assert np.array_equal(first.pixels, Photo.open(picture("JPEG")).pixels)


def _several(kind: str, pictures: list[Image.Image], **settings) -> bytes:
    first, *others = pictures
    return saved(first, kind, save_all=True, append_images=others, **settings)


@pytest.mark.parametrize("kind", ["TIFF", "MPO"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_file_with_a_smaller_copy_gives_the_picture_of_full_size(kind: str, place: int) -> None:
    pictures = [Image.fromarray(PICTURE[::2, ::2])]
    pictures.insert(1 - place, Image.fromarray(PICTURE))
    photo = Photo.open(_several(kind, pictures))
    expected = Photo.open(picture("JPEG")).pixels if kind == "MPO" else PICTURE
    assert np.array_equal(photo.pixels, expected)
    assert [(note.code, note.values) for note in photo.notes] == [("SMALLER_PICTURES", {"count": 1})]


def test_what_a_tiff_calls_smaller_is_no_photo_of_its_own() -> None:
    image = Image.fromarray(PICTURE)
    both_marked = _several("TIFF", [image, image.rotate(180)], tiffinfo={254: 1})
    head, entry, tail = both_marked.rpartition(struct.pack("<HHII", 254, 4, 1, 1))
    turned = Photo.open(head + entry[:8] + bytes(4) + tail)
    assert furthest(turned, PICTURE[::-1, ::-1]) == 0
    assert [note.code for note in turned.notes] == ["SMALLER_PICTURES"]


def test_an_index_that_leads_to_no_picture_is_passed_over() -> None:
    image = Image.fromarray(PICTURE)
    pair = _several("MPO", [image, image])
    alone = Photo.open(pair[: pair.index(b"\xff\xd9") + 2])
    assert np.array_equal(alone.pixels, Photo.open(picture("JPEG")).pixels)
    assert alone.notes == ()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("gray", [False, True])
def test_16_bits_and_fewer_bits_in_16(suffix: str, gray: bool) -> None:
    eight = PICTURE[..., 1] if gray else PICTURE[..., ::-1]
    expected = np.dstack([PICTURE[..., 1]] * 3) if gray else PICTURE
    full = cv2.imencode(suffix, eight.astype(np.uint16) * 257)[1].tobytes()
    assert furthest(Photo.open(full), expected) == 0
    for bits, below in ((8, 256), (10, 1024), (12, 4096), (14, 16384)):
        fewer = Photo.open(cv2.imencode(suffix, np.rint(eight / 255 * (below - 1)).astype(np.uint16))[1].tobytes())
        assert furthest(fewer, expected) == 0
        assert [message.code for message in fewer.notes] == ["READ_AS_FEWER_BITS"]
        assert fewer.notes[0].to_dict()["values"] == {"bits": bits, "below": below}


def test_16_bits_are_rounded_not_cut() -> None:
    values = np.tile(np.arange(0, 65536, 128, dtype=np.uint16), (300, 1))
    photo = Photo.open(cv2.imencode(".png", np.dstack([values] * 3))[1].tobytes())
    assert np.abs(photo.pixels[0, :, 0] - values[0] / 257).max() <= 0.5


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_is_refused(bad: float, channels: int) -> None:
    values = np.full((300, 300, channels), 0.5, np.float32)
    values[10:20] = bad
    assert code_of(cv2.imencode(".tif", values)[1].tobytes()) == "E_DEPTH"


def test_cmyk_equals_rgb_within_three_levels() -> None:
    inks = picture("JPEG", "CMYK", quality=100)
    assert b"Adobe" in inks
    assert furthest(Photo.open(inks), PICTURE) <= 3
    assert code_of(inks[:-1]) == "E_TRUNCATED"


def test_palettes_are_resolved_and_one_bit_is_refused() -> None:
    image = Image.fromarray(PICTURE).quantize(200)
    expected = np.asarray(image.convert("RGB"))
    assert furthest(Photo.open(saved(image, "PNG")), expected) == 0
    assert furthest(Photo.open(saved(image, "TIFF")), expected) == 0
    for kind in ("PNG", "TIFF"):
        assert code_of(picture(kind, "1")) == "E_FORMAT"
    assert code_of(Image.fromarray(PICTURE).convert("1")) == "E_FORMAT"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_and_transparency(kind: str) -> None:
    gray = np.asarray(Image.fromarray(PICTURE).convert("L"))
    assert furthest(Photo.open(picture(kind, "L")), np.dstack([gray] * 3)) == 0
    assert furthest(Photo.open(picture(kind, "LA")), np.dstack([gray] * 3)) == 0
    clear = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    clear[:100, :, 3] = 0
    expected = PICTURE.copy()
    expected[:100] = 0
    assert furthest(Photo.open(saved(Image.fromarray(clear), kind)), expected) == 0
    deep = cv2.cvtColor(clear, cv2.COLOR_RGBA2BGRA).astype(np.uint16) * 257
    encoded = cv2.imencode(".png" if kind == "PNG" else ".tif", deep)[1].tobytes()
    assert furthest(Photo.open(encoded), expected) == 0


@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_s_fourth_channel_is_taken_for_what_the_file_says(deep: bool) -> None:
    colors = PICTURE.astype(np.uint16) * 257 if deep else PICTURE
    share = np.full(PICTURE.shape[:2], 0.5)
    half = PICTURE * 0.5
    covered = (share * np.iinfo(colors.dtype).max).astype(colors.dtype)
    unknown = np.dstack([colors, np.zeros_like(covered)])
    assert furthest(Photo.open(tiff_with(unknown, (338, 3, 0))), PICTURE) == 0
    multiplied = np.dstack([(colors * share[..., None]).astype(colors.dtype), covered])
    assert np.abs(Photo.open(tiff_with(multiplied, (338, 3, 1))).pixels - half).max() <= 1.5
    assert np.abs(Photo.open(tiff_with(np.dstack([colors, covered]), (338, 3, 2))).pixels - half).max() <= 1


def test_tiffs_that_no_decoder_reads_rightly_are_refused_with_what_to_do() -> None:
    deep = PICTURE.astype(np.uint16) * 257
    assert furthest(Photo.open(tiff_with(deep)), PICTURE) == 0
    assert furthest(Photo.open(tiff_with(PICTURE, separate=True)), PICTURE) == 0
    gray = deep[..., :2]
    for data in (
        tiff_with(deep, separate=True),
        tiff_with(gray, (338, 3, 2), color=1),
        tiff_with(PICTURE[..., :2], (338, 3, 1), color=1),
        tiff_with(np.dstack([deep, deep[..., 0]]), color=5),
    ):
        assert code_of(data) == "E_FORMAT"
        with pytest.raises(PhotoError, match="save it again"):
            Photo.open(data)


def test_jpeg_inside_a_tiff_is_refused_as_its_damage_passes_unnoticed(capfd: pytest.CaptureFixture[str]) -> None:
    data = picture("TIFF", compression="jpeg")
    with pytest.raises(PhotoError, match=r"compressed as JPEG.*save it again") as caught:
        Photo.open(data)
    assert caught.value.code == "E_FORMAT"
    assert capfd.readouterr() == ("", "")


def test_an_orientation_that_is_said_twice_and_once_in_letters() -> None:
    turned = cv2.rotate(PICTURE, cv2.ROTATE_180)
    assert furthest(Photo.open(tiff_with(turned, (274, 2, 0), (274, 3, 3))), PICTURE) == 0


def test_whatever_a_header_raises_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_data: bytes) -> None:
        raise KeyError(2)

    monkeypatch.setattr("funduscope.imaging.photo.read_header", fails)
    assert code_of(picture()) == "E_CORRUPT"


TURNED_BACK = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
               4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
               7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}  # fmt: skip


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "lzw", "pil"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    image = Image.fromarray(PICTURE)
    turn = TURNED_BACK[orientation]
    stored = image if turn is None else image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "pil":
        for form in ("JPEG", "TIFF"):
            opened = Image.open(io.BytesIO(saved(stored, form, exif=exif)))
            assert furthest(Photo.open(opened), PICTURE) <= (12 if form == "JPEG" else 0)
        return
    if kind == "JPEG":
        data = saved(stored, "JPEG", exif=exif, quality=98, subsampling=0)
        by_pillow = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert np.array_equal(Photo.open(data).pixels, np.asarray(by_pillow))
        assert furthest(Photo.open(data), PICTURE) <= 12
    elif kind == "PNG":
        assert furthest(Photo.open(saved(stored, "PNG", exif=exif)), PICTURE) == 0
    else:
        packing = {"compression": "tiff_lzw"} if kind == "lzw" else {}
        assert furthest(Photo.open(saved(stored, "TIFF", tiffinfo={274: orientation}, **packing)), PICTURE) == 0


def exif_block(*entries: tuple[int, int, int, int], cut: int = 0) -> bytes:
    """A big-endian EXIF block of entries (tag, kind, count, the four bytes of the value), without its last bytes."""
    directory = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    block = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + directory + bytes(4)
    return block[: len(block) - cut]


ON_ITS_SIDE = (274, 3, 1, 6 << 16)
DAMAGED_BLOCKS = {
    "a text beyond the block": exif_block((270, 2, 5000, 60_000), ON_ITS_SIDE),
    "a text longer than anything": exif_block((270, 2, 0xFFFFFFFF, 8), ON_ITS_SIDE),
    "cut after its entries": exif_block(ON_ITS_SIDE, cut=4),
    "cut within a later entry": exif_block(ON_ITS_SIDE, (306, 2, 20, 100), cut=9),
}


@pytest.mark.parametrize("block", DAMAGED_BLOCKS.values(), ids=DAMAGED_BLOCKS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damage_elsewhere_in_the_metadata_leaves_no_photo_on_its_side(kind: str, block: bytes) -> None:
    stored = Image.fromarray(PICTURE).transpose(Image.Transpose.ROTATE_90)
    data = saved(stored, kind, exif=b"Exif\0\0" + block)
    assert furthest(Photo.open(data), PICTURE) <= (40 if kind == "JPEG" else 0)
    nonsense = saved(stored, kind, exif=b"Exif\0\0" + exif_block((274, 3, 1, 99 << 16)))
    assert Photo.open(nonsense).pixels.shape == (360, 300, 3)


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """The JPEG with these bytes right behind its first marker."""
    return data[:2] + b"".join(segments) + data[2:]


def app1(block: bytes) -> bytes:
    return b"\xff\xe1" + (len(block) + 8).to_bytes(2, "big") + b"Exif\0\0" + block


def test_the_first_of_several_metadata_blocks_counts() -> None:
    sideways, upside_down = app1(exif_block(ON_ITS_SIDE)), app1(exif_block((274, 3, 1, 3 << 16)))
    stored = saved(Image.fromarray(PICTURE).transpose(Image.Transpose.ROTATE_90), "JPEG")
    for segments in ((sideways, upside_down), (app1(b"none"), sideways, upside_down)):
        assert furthest(Photo.open(with_segments(stored, *segments)), PICTURE) <= 40


@pytest.mark.parametrize(("segments", "code"), [
    (b"\xff" * 100_000_000, "E_TRUNCATED"),
    (b"\xff\xe0\0\2" * 20_000_000, "E_CORRUPT"),
    (b"\xff\xd0" * 40_000_000, "E_CORRUPT"),
    (app1(exif_block(*[(270, 2, 1, 0)] * 5000)) * 1000, "E_TRUNCATED"),
], ids=["fill", "segments", "markers", "metadata"])  # fmt: skip
def test_a_jpeg_that_is_long_for_nothing_is_refused(segments: bytes, code: str) -> None:
    assert code_of(b"\xff\xd8" + segments) == code
    assert code_of(b"\xff\xd8" + segments + b"\xff\xd9") == "E_CORRUPT"


def test_fill_and_many_segments_are_no_damage() -> None:
    data = picture("JPEG")
    expected = Photo.open(data).pixels
    remarks = b"\xff\xfe\0\5ok." * 15_000
    for more in (b"\xff" * 50, remarks, b"\xff\xff" + remarks):
        assert np.array_equal(Photo.open(with_segments(data, more)).pixels, expected)


def test_metadata_stays_behind() -> None:
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    photo = Photo.open(picture("JPEG", exif=exif, comment=b"Jane Doe"), name="eye.jpg")
    assert "Jane" not in repr(photo)
    assert {name for name in dir(photo) if not name.startswith("_")} == {
        "dicom_frame", "height", "name", "notes", "open", "open_all", "pixels", "sha256", "stated", "width",
    }  # fmt: skip
    assert type(photo.pixels) is np.ndarray


def test_kinds_of_jpeg() -> None:
    expected = Photo.open(picture("JPEG", quality=97)).pixels
    assert furthest(Photo.open(picture("JPEG", quality=97, progressive=True)), expected) <= 3
    for layout in ("444", "422", "420", "411", "440"):
        data = simplejpeg.encode_jpeg(PICTURE, quality=97, colorsubsampling=layout)
        assert furthest(Photo.open(data), PICTURE) <= 30
    assert Photo.open(picture("JPEG", "L")).pixels.shape == PICTURE.shape
    assert code_of(picture("JPEG").replace(b"\xff\xc0", b"\xff\xc9", 1)) == "E_FORMAT"  # arithmetic coding
    assert code_of(picture("JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1)) == "E_DEPTH"


@pytest.mark.parametrize(("quality", "is_noted"), [(3, True), (8, True), (14, True), (15, False), (60, False)])
def test_a_jpeg_of_low_quality_is_read_with_a_note(quality: int, is_noted: bool) -> None:
    photo = Photo.open(picture("JPEG", quality=quality))
    noted = [note.values for note in photo.notes if note.code == "LOW_JPEG_QUALITY"]
    assert noted == ([{"quality": pytest.approx(quality, abs=1)}] if is_noted else [])


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (63, 4000), (4000, 255)])
def test_too_small(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    for source in (saved(image, "PNG"), saved(image, "JPEG"), saved(image, "TIFF"), image, np.asarray(image)):
        assert code_of(source) == "E_TOO_SMALL"


@pytest.mark.parametrize("size", [(256, 1025), (100_000, 256)])
def test_strips_are_refused_before_anything_is_made_of_them(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    for source in (saved(image, "PNG"), image, np.asarray(image)):
        assert code_of(source) == "E_TOO_SMALL"
    assert Photo.open(np.zeros((256, 1024, 3), np.uint8)).width == 1024


def test_limits_can_be_set() -> None:
    assert code_of(PICTURE, limits=Limits(max_pixels=100_000)) == "E_TOO_MANY_PIXELS"
    assert code_of(picture(), limits=Limits(max_bytes=100)) == "E_TOO_LARGE"
    assert Photo.open(np.zeros((10, 10, 3), np.uint8), limits=Limits(min_side_px=8)).width == 10


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    with file.open("wb") as handle:
        handle.truncate(300_000_000)
    assert code_of(file) == "E_TOO_LARGE"


@pytest.mark.parametrize(
    "name", ["../../etc/nothing", "a\0b.jpg", "x" * 300, "\U0001f441.jpg", "a\nb", ";rm", "-v", "=cmd()"]
)
def test_odd_paths_that_lead_nowhere(name: str) -> None:
    assert code_of(name) == "E_NOT_FOUND"
    with pytest.raises(PhotoError) as caught:
        Photo.open(name)
    assert name not in caught.value.says


@pytest.mark.parametrize("name", ["\U0001f441.jpg", ";rm -rf.jpg", "-v.png", "=cmd().png", "a'b\".png"])
def test_odd_names_are_kept_as_they_are(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(picture())
    assert Photo.open(file).name == name
    assert Photo.open(str(file)).name == name


def test_folders_are_no_photos(tmp_path: Path) -> None:
    assert code_of(tmp_path) == "E_NOT_FOUND"
    assert code_of("") == "E_NOT_FOUND"


def test_arrays_and_bytes() -> None:
    photo = Photo.open(PICTURE[:, ::-1])
    assert photo.pixels.flags.c_contiguous
    assert photo.name == "photo"
    assert photo.sha256 == Photo.open(PICTURE[:, ::-1].copy()).sha256 != Photo.open(PICTURE).sha256
    assert Photo.open(picture(), name="b").sha256 == Photo.open(bytearray(picture())).sha256
    for wrong in (PICTURE[..., 0], PICTURE.astype(np.float32), np.zeros((300, 300, 4), np.uint8)):
        assert code_of(wrong) == "E_FORMAT"
    with pytest.raises(TypeError, match=r"BytesIO; of an open file pass its \.read\(\)"):
        Photo.open(io.BytesIO(b""))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="int"):
        Photo.open(3)  # type: ignore[arg-type]


def test_a_photo_is_its_own() -> None:
    """A camera's buffer that is filled again, or a drawing in what was given out, changes no photo."""
    buffer = PICTURE.copy()
    photo = Photo.open(buffer)
    buffer[:] = 0
    assert np.array_equal(photo.pixels, PICTURE)
    assert buffer.flags.writeable
    for opened in (photo, Photo.open(picture()), Photo.open(Image.fromarray(PICTURE))):
        with pytest.raises(ValueError, match="read-only"):
            opened.pixels[0] = 0


def test_real_photographs_open(shared: Path) -> None:
    folders = ("idrid", "srahim", "heimed", "eyepacs400", "messidor2", "eophtha")
    files = [next((shared / folder).rglob("*.jpg")) for folder in folders]
    for file in [*files, shared / "cameras" / "drive_22.png"]:
        photo = Photo.open(file)
        assert np.array_equal(photo.pixels, np.asarray(Image.open(file).convert("RGB")))


def test_an_image_whose_file_was_closed_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "eye.png").write_bytes(saved(Image.fromarray(PICTURE), "PNG"))
    with (tmp_path / "eye.png").open("rb") as file:
        image = Image.open(file)
    with Image.open(tmp_path / "eye.png") as closed_after_use:
        pass
    closed = Image.open(tmp_path / "eye.png")
    closed.load()
    closed.close()
    for one in (image, closed_after_use, closed):
        with pytest.raises(PhotoError, match="call load") as caught:
            Photo.open(one)
        assert caught.value.code == "E_FORMAT"
