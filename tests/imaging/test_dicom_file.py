"""DICOM photos: the same pixels in every transfer syntax and color space, and a refusal for everything else."""

from __future__ import annotations

import io
import struct
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

from funduscope.i18n.errors import HTTP_STATUS, PhotoError
from funduscope.imaging.dicom_file import DicomStatements
from funduscope.imaging.find_photos import find_photos
from funduscope.imaging.photo import Photo, frame_numbers, open_each
from funduscope.testing.drawn_eyes import draw_eye

OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
EYE = draw_eye(3, width_px=432).pixels[:280]


def dicom(pixels: np.ndarray | bytes = EYE, syntax: UID = ExplicitVRLittleEndian, **attributes: object) -> FileDataset:
    """A DICOM photo of an eye. pixels: (H, W, 3) or (N, H, W, 3) uint8, or the coded bytes of pixel data."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = OPHTHALMIC
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = OPHTHALMIC, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = "Marker^Patient", "marker-1"
    dataset.Rows, dataset.Columns = EYE.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.ImageLaterality = "R"
    if isinstance(pixels, np.ndarray) and pixels.ndim == 4:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels if isinstance(pixels, bytes) else pixels.tobytes()
    if syntax.is_encapsulated:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def data_of(dataset: FileDataset, *, bare: bool = False) -> bytes:
    """The file's bytes; bare: without preamble and file meta information."""
    buffer = io.BytesIO()
    if bare:
        pydicom.filewriter.write_dataset(_little_endian(buffer), dataset)
    else:
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _little_endian(buffer: io.BytesIO) -> pydicom.filebase.DicomFileLike:
    file = pydicom.filebase.DicomFileLike(buffer)
    file.is_implicit_VR, file.is_little_endian = True, True
    return file


def compressed(syntax: UID) -> FileDataset:
    dataset = dicom()
    dataset.compress(syntax)
    return dataset


def jpeg_2000(*, is_lossy: bool) -> FileDataset:
    buffer = io.BytesIO()
    Image.fromarray(EYE).save(
        buffer, "JPEG2000", no_jp2=True, mct=1, irreversible=is_lossy, quality_layers=[4] if is_lossy else None
    )
    syntax = UID("1.2.840.10008.1.2.4.91") if is_lossy else JPEG2000Lossless
    return dicom(
        encapsulate([buffer.getvalue()]), syntax, PhotometricInterpretation="YBR_ICT" if is_lossy else "YBR_RCT"
    )


def encode_jpeg_2000(
    pixels: np.ndarray,
    *,
    has_transform: bool,
    is_boxed: bool = False,
) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(buffer, "JPEG2000", no_jp2=not is_boxed, mct=int(has_transform), irreversible=False)
    return buffer.getvalue()


def palette(*, in_segments: bool = False) -> FileDataset:
    image = Image.fromarray(EYE).quantize(256)
    table = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    dataset = dicom(np.array(image).tobytes(), PhotometricInterpretation="PALETTE COLOR", SamplesPerPixel=1)
    del dataset.PlanarConfiguration
    for index, color in enumerate(("Red", "Green", "Blue")):
        if in_segments:  # one segment of single values
            segment = np.array([0, len(table), *table[:, index].astype(int) * 257], "<u2").tobytes()
            setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [len(table), 0, 16])
            setattr(dataset, f"Segmented{color}PaletteColorLookupTableData", segment)
        else:
            setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [len(table), 0, 8])
            setattr(dataset, f"{color}PaletteColorLookupTableData", table[:, index].tobytes())
    return dataset


def _palette_that_says_16() -> FileDataset:
    dataset = palette()
    for color in ("Red", "Green", "Blue"):
        name = f"{color}PaletteColorLookupTable"
        entries = np.frombuffer(dataset[f"{name}Data"].value, np.uint8).astype("<u2")
        setattr(dataset, f"{name}Data", entries.tobytes())
        setattr(dataset, f"{name}Descriptor", [len(entries), 0, 16])
    return dataset


def jpeg() -> bytes:
    return simplejpeg.encode_jpeg(EYE, 90, colorsubsampling="422")


def jpeg_2000_data() -> bytes:
    return data_of(jpeg_2000(is_lossy=False))


def without_group_length(data: bytes) -> bytes:
    """As some exporters write it: the file meta information does not say how long it is."""
    return data[:132] + data[144:]


LOSSLESS: dict[str, Callable[[], bytes]] = {
    "explicit": lambda: data_of(dicom()),
    "implicit": lambda: data_of(dicom(syntax=ImplicitVRLittleEndian)),
    "implicit, nothing before it": lambda: data_of(dicom(syntax=ImplicitVRLittleEndian), bare=True),
    "no preamble": lambda: data_of(dicom())[132:],
    "deflated": lambda: data_of(dicom(syntax=DeflatedExplicitVRLittleEndian)),
    "RLE": lambda: data_of(compressed(RLELossless)),
    "JPEG-LS": lambda: data_of(compressed(JPEGLSLossless)),
    "JPEG 2000": jpeg_2000_data,
    "no group length": lambda: without_group_length(jpeg_2000_data()),
    "a wrong group length": lambda: jpeg_2000_data()[:140] + bytes(4) + jpeg_2000_data()[144:],
    "planes": lambda: data_of(dicom(np.ascontiguousarray(EYE.transpose(2, 0, 1)).tobytes(), PlanarConfiguration=1)),
}
LOSSY: dict[str, Callable[[], bytes]] = {
    "YBR_FULL": lambda: data_of(
        dicom(convert_color_space(EYE, "RGB", "YBR_FULL"), PhotometricInterpretation="YBR_FULL")
    ),
    "JPEG": lambda: data_of(dicom(encapsulate([jpeg()]), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")),
    "JPEG 2000, lossy": lambda: data_of(jpeg_2000(is_lossy=True)),
    "palette": lambda: data_of(palette()),
    "palette in segments": lambda: data_of(palette(in_segments=True)),
    "palette of 8 bits that says 16": lambda: data_of(_palette_that_says_16()),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_lossless_way_to_store_a_photo_gives_the_same_pixels(name: str) -> None:
    photo = Photo.open(LOSSLESS[name](), name="eye.dcm")
    assert np.array_equal(photo.pixels, EYE)
    assert photo.stated.laterality == "right"


@pytest.mark.parametrize("name", LOSSY)
def test_what_lossy_coding_changes_is_small(name: str) -> None:
    pixels = Photo.open(LOSSY[name](), name="eye.dcm").pixels
    assert np.abs(pixels.astype(int) - EYE).mean() < 3, "levels of 255, in the mean"


def test_a_jpeg_in_a_dicom_file_is_read_as_the_jpeg_alone() -> None:
    assert np.array_equal(Photo.open(LOSSY["JPEG"]()).pixels, Photo.open(jpeg()).pixels)
    blank = jpeg().replace(b"\0\x3f\0", bytes(3), 1)  # many phones leave a scan's header so
    odd = dicom(encapsulate([blank]), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")
    assert np.array_equal(Photo.open(data_of(odd)).pixels, Photo.open(jpeg()).pixels)


@pytest.mark.parametrize(
    ("syntax", "says"),
    [(JPEGLosslessSV1, "compressed as JPEG Lossless"), (UID("1.2.3.4"), "compressed in an unknown way")],
)
def test_a_compression_that_is_not_read_is_named_and_what_is_read_too(syntax: UID, says: str) -> None:
    dataset = dicom(encapsulate([jpeg()]), JPEGLosslessSV1)
    dataset.file_meta.TransferSyntaxUID = syntax
    data = data_of(dataset)
    with pytest.raises(PhotoError, match=rf"{says}.*RLE.*JPEG 2000") as refused:
        Photo.open(data)
    assert refused.value.code == "E_FORMAT"
    assert "1.2.3.4" not in refused.value.says


def test_a_jpeg_of_low_quality_is_named_in_a_dicom_file_too() -> None:
    poor = simplejpeg.encode_jpeg(EYE, 5)
    file = dicom(encapsulate([poor]), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")
    assert [note.code for note in Photo.open(data_of(file)).notes] == ["LOW_JPEG_QUALITY"]
    assert Photo.open(data_of(file)).notes == Photo.open(poor).notes


def test_each_frame_is_a_photo_of_its_own() -> None:
    frames = np.stack([EYE, EYE[:, ::-1], EYE[::-1]])
    data = data_of(dicom(frames))
    photos = list(Photo.open_all(data, name="eye.dcm"))
    assert [photo.name for photo in photos] == ["eye_frame1.dcm", "eye_frame2.dcm", "eye_frame3.dcm"]
    assert len({photo.sha256 for photo in photos}) == 3
    for photo, pixels in zip(photos, frames, strict=True):
        assert np.array_equal(photo.pixels, pixels)
    with pytest.raises(PhotoError, match="several frames"):
        Photo.open(data)


def test_what_the_file_says_about_the_photo_is_kept_where_it_makes_sense() -> None:
    said = {"PixelSpacing": [0.006, 0.006], "HorizontalFieldOfView": 45.0, "AcquisitionDateTime": "20240229101112"}
    stated = Photo.open(data_of(dicom(**said))).stated
    assert (stated.pixel_mm, stated.field_degrees, stated.acquired_on) == (0.006, 45.0, date(2024, 2, 29))
    for nonsense in (
        {"PixelSpacing": [0.006, 0.012]},
        {"PixelSpacing": [0, 0]},
        {"AcquisitionDate": "20240231"},
        {"HorizontalFieldOfView": float("nan")},
    ):
        assert Photo.open(data_of(dicom(**nonsense))).stated == DicomStatements(laterality="right")


def test_a_frame_is_chosen_by_its_number() -> None:
    data = data_of(dicom(np.stack([EYE, EYE[:, ::-1]])))
    assert frame_numbers(data) == [1, 2]
    assert np.array_equal(Photo.open(data, dicom_frame=2).pixels, EYE[:, ::-1])
    assert frame_numbers(data_of(dicom())) == frame_numbers(b"no photo") == frame_numbers(data[:200]) == []
    for file in (data, jpeg()):
        with pytest.raises(PhotoError, match="frame 3 is asked for"):
            Photo.open(file, dicom_frame=3)


def read(data: bytes) -> str:
    """What comes of a file: its pixels or a code."""
    try:
        return "pixels" if Photo.open(data).pixels.shape[2] == 3 else "no pixels"
    except PhotoError as error:
        return error.code


def _huge() -> bytes:
    return data_of(dicom(b"\0" * 64, Rows=65535, Columns=65535))


def _nested() -> bytes:
    inner = b""
    for _ in range(1000):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
        inner = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, len(item)) + item
    return data_of(dicom()) + inner


def _truncated() -> bytes:
    return data_of(dicom())[:-1000]


def _jpeg_xl() -> bytes:
    high_throughput = "1.2.840.10008.1.2.4.201"  # pydicom knows no JPEG XL yet, and this name is as long
    data = data_of(dicom(encapsulate([b"\xff\x0a"]), UID(high_throughput)))
    return data.replace(high_throughput.encode(), b"1.2.840.10008.1.2.4.110")


def _executable() -> bytes:
    return b"MZ" + data_of(dicom())[2:]


def _bomb() -> bytes:
    return data_of(dicom(b"\0" * 150_000_000, DeflatedExplicitVRLittleEndian))


def _disguised_bomb() -> bytes:
    """In another UID stands what looks like the element of the transfer syntax, of an uncompressed file."""
    decoy = struct.pack("<HH2sH", 2, 0x10, b"UI", 20)
    data = _bomb()
    uid = data.index(b"\x02\0\x03\0UI")
    old = struct.unpack_from("<H", data, uid + 6)[0]
    value = b"2.25.1\0\0" + decoy + b"1.2.840.10008.1.2.1\0"
    longer = struct.unpack_from("<I", data, 140)[0] + len(value) - old
    head = data[:140] + struct.pack("<I", longer) + data[144 : uid + 6] + struct.pack("<H", len(value))
    return head + value + data[uid + 8 + old :]


def _large(coded: bytes, sizes_at: int, size: bytes, syntax: UID) -> bytes:
    """A small file whose stream says that it is of another size than the file says."""
    data = coded[:sizes_at] + size + coded[sizes_at + len(size) :]
    return data_of(dicom(encapsulate([data]), syntax))


def _coded(dataset: FileDataset) -> bytes:
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _large_jpeg_ls() -> bytes:
    """Its frame header stands behind a comment."""
    coded = _coded(compressed(JPEGLSLossless))
    coded = coded[:2] + b"\xff\xfe\0\4hi" + coded[2:]
    return _large(coded, coded.index(b"\xff\xf7") + 5, struct.pack(">2H", 24_000, 24_000), JPEGLSLossless)


def _large_jpeg_2000() -> bytes:
    """The stream is in the boxes of a file."""
    coded = encode_jpeg_2000(EYE, has_transform=True, is_boxed=True)
    at = coded.index(b"\xff\x4f\xff\x51") + 8
    return _large(coded, at, struct.pack(">2I", 24_000, 24_000), JPEG2000Lossless)


def _large_runs() -> bytes:
    runs = struct.pack("<16I", 3, 64, 64 + 3_000_000, 64 + 6_000_000, *[0] * 12) + b"\x81\0" * 4_500_000
    return data_of(dicom(encapsulate([runs]), RLELossless))


def _runs_of_nothing() -> bytes:
    """Heads of 128 stand for no byte."""
    runs = struct.pack("<16I", 3, 64, 65, 66, *[0] * 12) + b"\x80" * 3_000_000
    return data_of(dicom(encapsulate([runs]), RLELossless))


def _runs_to_and_fro() -> bytes:
    """The same bytes as every other segment."""
    runs = struct.pack("<16I", 15, *[64, 64 + 200_000] * 7, 64) + b"\x80" * 200_000
    return data_of(dicom(encapsulate([runs]), RLELossless))


def _jpeg_ls_of_fill_bytes() -> bytes:
    coded = _coded(compressed(JPEGLSLossless))
    return data_of(dicom(encapsulate([coded[:2] + b"\xff" * 3_000_000 + b"\xda\0" * 10]), JPEGLSLossless))


def _palette_in_near_lossless() -> bytes:
    """Indices may be off by a little, which is another color."""
    dataset = palette()
    dataset.file_meta.TransferSyntaxUID = JPEGLSNearLossless
    dataset.PixelData = encapsulate([_coded(compressed(JPEGLSLossless))])
    dataset["PixelData"].is_undefined_length = True
    return data_of(dataset)


def _more_pictures_than_frames() -> bytes:
    return data_of(dicom(encapsulate([jpeg(), jpeg()]), JPEGBaseline8Bit))


def _a_million_fragments() -> bytes:
    return data_of(dicom(_items(b"") * 1_000_000, RLELossless))


def _palette_in_a_jpeg() -> bytes:
    gray = simplejpeg.encode_jpeg(np.ascontiguousarray(EYE[..., :1]), 90, colorspace="GRAY")
    dataset = palette()
    coded = dicom(encapsulate([gray]), JPEGBaseline8Bit, PhotometricInterpretation="PALETTE COLOR", SamplesPerPixel=1)
    del coded.PlanarConfiguration
    for element in dataset:
        if "Palette" in element.keyword:
            coded.add(element)
    return data_of(coded)


def _of_4_gb() -> bytes:
    data = data_of(dicom(EYE))
    start = data.index(b"\xe0\x7f\x10\x00") + 8  # tag and representation
    assert data[start : start + 4] == EYE.size.to_bytes(4, "little")
    return data[:start] + b"\xfe\xff\xff\xff" + data[start + 4 :]


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "gray": (
        lambda: data_of(dicom(EYE[..., 0], SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2")),
        "E_FORMAT",
    ),
    "16 bits": (lambda: data_of(dicom(BitsAllocated=16, BitsStored=12, HighBit=11)), "E_DEPTH"),
    "signed": (lambda: data_of(dicom(PixelRepresentation=1)), "E_DEPTH"),
    "an OCT volume": (lambda: data_of(dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.5.4")), "E_SOP_CLASS"),
    "text burned in": (lambda: data_of(dicom(BurnedInAnnotation="YES")), "E_BURNED_IN"),
    "JPEG XL": (_jpeg_xl, "E_FORMAT"),
    "17 frames": (lambda: data_of(dicom(np.stack([EYE] * 17))), "E_MULTIPAGE"),
    "65,535 x 65,535 with 64 bytes": (_huge, "E_TOO_MANY_PIXELS"),
    "pixel data cut short": (_truncated, "E_TRUNCATED"),
    "pixel data of 4 GB by their length": (_of_4_gb, "E_TRUNCATED"),
    "coded pixel data cut short": (lambda: jpeg_2000_data()[:-1000], "E_TRUNCATED"),
    "also a program": (_executable, "E_FORMAT"),
    "a deflated bomb": (_bomb, "E_TOO_LARGE"),
    "a deflated bomb without a group length": (lambda: without_group_length(_bomb()), "E_TOO_LARGE"),
    "a deflated bomb that hides its syntax": (_disguised_bomb, "E_TOO_LARGE"),
    "a large JPEG-LS in a small file": (_large_jpeg_ls, "E_CORRUPT"),
    "a large JPEG 2000 in a small file": (_large_jpeg_2000, "E_CORRUPT"),
    "large runs in a small file": (_large_runs, "E_CORRUPT"),
    "runs of nothing": (_runs_of_nothing, "E_CORRUPT"),
    "segments of runs to and fro": (_runs_to_and_fro, "E_CORRUPT"),
    "a million fragments": (_a_million_fragments, "E_CORRUPT"),
    "a JPEG-LS of fill bytes": (_jpeg_ls_of_fill_bytes, "E_CORRUPT"),
    "more pictures than frames": (_more_pictures_than_frames, "E_MULTIPAGE"),
    "more uncompressed pictures than frames": (
        lambda: data_of(dicom(EYE.tobytes() * 2)),
        "E_MULTIPAGE",
    ),
    "a palette in a JPEG": (_palette_in_a_jpeg, "E_FORMAT"),
    "a palette in a lossy JPEG-LS": (_palette_in_near_lossless, "E_FORMAT"),
    "no pixel data": (lambda: data_of(dicom())[:500], "E_CORRUPT"),
    "coded pixels of another size": (
        lambda: data_of(
            dicom(encapsulate([jpeg()]), JPEGBaseline8Bit, Rows=270, PhotometricInterpretation="YBR_FULL_422")
        ),
        "E_CORRUPT",
    ),
}


def test_a_file_with_fewer_pictures_than_frames_is_cut_short() -> None:
    halves = encapsulate([jpeg(), jpeg()], fragments_per_frame=2)
    data = data_of(dicom(halves, JPEGBaseline8Bit, NumberOfFrames=3))
    for number in (1, 2, 3):
        with pytest.raises(PhotoError, match="states 3 as its number of frames, and holds 2"):
            Photo.open(data, dicom_frame=number)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo_is_refused_by_its_code(name: str) -> None:
    make, code = REFUSED[name]
    with pytest.raises(PhotoError) as refused:
        Photo.open(make(), name="eye.dcm")
    assert refused.value.code == code
    assert "arker" not in refused.value.says


def _element(vr: bytes, length: int, content: bytes = b"", tag: tuple[int, int] = (0x0009, 0x1010)) -> bytes:
    """An element, private unless said otherwise, with a length that its content need not have."""
    return struct.pack("<HH2sHI", *tag, vr, 0, length) + content


def _with_rubbish(rubbish: bytes) -> bytes:
    """The file with something between its file meta information and its data set."""
    data = data_of(dicom())
    start = data.index(b"\x08\x00\x16\x00UI")
    return data[:start] + rubbish + data[start:]


UNDEFINED = 0xFFFFFFFF
HOSTILE: dict[str, Callable[[], bytes]] = {
    "1,000 nested sequences": _nested,
    "1,000 nested sequences without lengths": lambda: _with_rubbish(
        (_element(b"SQ", UNDEFINED, tag=(0x0008, 0x1140)) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 1000
    ),
    "a length of 4 GB": lambda: _with_rubbish(_element(b"OB", 0xFFFFFFF0)),
    "an undefined length": lambda: _with_rubbish(_element(b"UN", UNDEFINED, b"rubbish" * 100)),
    "private rubbish": lambda: _with_rubbish(_element(b"OB", 5_000_000, b"\xff\xfe\x00" * 1_666_667)),
    "100,000 private elements": lambda: _with_rubbish(_element(b"UN", 4, b"abcd") * 100_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_structure_does_no_harm(name: str) -> None:
    assert read(HOSTILE[name]()) in ("pixels", *HTTP_STATUS)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux says how much memory was used")
def test_what_is_refused_takes_little_memory() -> None:
    files = [make() for make, _ in REFUSED.values()] + [make() for make in HOSTILE.values()]
    for data in files:
        Path("/proc/self/clear_refs").write_text("5")  # the largest size so far becomes the present one
        before = _memory_bytes("VmRSS")
        assert read(data) in ("pixels", *HTTP_STATUS)
        assert _memory_bytes("VmHWM") - before < 100e6


def _memory_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def test_flipped_bytes_are_refused_or_read_and_never_a_traceback() -> None:
    rng = np.random.default_rng(0)
    makers = [LOSSLESS["explicit"], LOSSLESS["RLE"], LOSSLESS["JPEG-LS"], LOSSLESS["JPEG 2000"], LOSSY["JPEG"]]
    for make in makers:
        whole = np.frombuffer(make(), np.uint8)
        for _ in range(40):
            data = whole.copy()
            places = rng.integers(128, min(len(data), 1500), 3)
            data[places] = rng.integers(0, 256, 3)
            assert read(data.tobytes()) in ("pixels", *HTTP_STATUS)


def test_a_folder_gives_its_dicom_files_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("IM0001", "eye.dcm", "DICOMDIR"):  # the last is a disc's list of the others
        (tmp_path / name).write_bytes(data_of(dicom()))
    (tmp_path / "note.txt").write_text("not a photo " * 20)
    assert [path.name for path in find_photos([tmp_path])] == ["IM0001", "eye.dcm"]


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(dicom())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(PhotoError, match=r"pip install '\.\[dicom\]' in the clone of funduscope"):
        Photo.open(data)


def test_an_orientation_in_a_frames_own_exif_turns_nothing() -> None:
    """DICOM does not know it: other readers show the frame as it is stored, and results refer to that."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(EYE).save(buffer, "JPEG", quality=95, exif=exif)
    file = dicom(encapsulate([buffer.getvalue()]), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")
    assert np.abs(Photo.open(data_of(file)).pixels.astype(int) - EYE).mean() < 3, "levels of 255, in the mean"
    assert Photo.open(buffer.getvalue()).pixels.shape == (EYE.shape[1], EYE.shape[0], 3)


def test_a_damaged_frame_costs_no_other() -> None:
    whole = jpeg()
    frames = [whole, whole[: len(whole) // 2], whole]
    attributes = {"NumberOfFrames": 3, "PhotometricInterpretation": "YBR_FULL_422"}
    each = list(open_each(data_of(dicom(encapsulate(frames), JPEGBaseline8Bit, **attributes)), name="eye.dcm"))
    assert [name for name, _ in each] == ["eye_frame1.dcm", "eye_frame2.dcm", "eye_frame3.dcm"]
    assert [isinstance(photo, Photo) for _, photo in each] == [True, False, True]


FRAMES = (EYE, EYE[:, ::-1], EYE[::-1])
WITH_END_MARKER = (JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless)


def _compress(pixels: np.ndarray, syntax: UID) -> bytes:
    """A frame's compressed bytes, of an even number."""
    if syntax == JPEGBaseline8Bit:
        picture = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 95)
    elif syntax == JPEG2000Lossless:
        picture = encode_jpeg_2000(pixels, has_transform=True)
    else:
        dataset = dicom(np.ascontiguousarray(pixels))
        dataset.compress(syntax)
        picture = _coded(dataset)
    return picture + bytes(len(picture) % 2)


def _items(*contents: bytes) -> bytes:
    """Encapsulated pixel data: a table of offsets, and fragments."""
    heads = [b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) for content in contents]
    return b"".join(map(bytes.__add__, heads, contents))


def _assert_frames(syntax: UID, pixel_data: bytes, **attributes: object) -> None:
    """Each frame is read as its picture."""
    label = "YBR_FULL_422" if syntax == JPEGBaseline8Bit else "RGB"
    file = dicom(pixel_data, syntax, PhotometricInterpretation=label, **attributes)
    file.NumberOfFrames = len(FRAMES)
    for photo, pixels in zip(Photo.open_all(data_of(file)), FRAMES, strict=True):
        assert np.abs(photo.pixels.astype(int) - pixels).mean() < 3, "levels of 255, in the mean"


@pytest.mark.parametrize("syntax", [*WITH_END_MARKER, RLELossless], ids=lambda uid: uid.name)
def test_a_wrong_offset_table_leads_to_no_other_frame(syntax: UID) -> None:
    pictures = [_compress(pixels, syntax) for pixels in FRAMES]
    zeros = bytes(8 * len(pictures))
    extended = {"ExtendedOffsetTable": zeros, "ExtendedOffsetTableLengths": zeros}

    _assert_frames(syntax, _items(bytes(12), *pictures))
    _assert_frames(syntax, _items(struct.pack("<3I", 0, len(pictures[0]), 9), *pictures))
    _assert_frames(syntax, _items(b"", *pictures), **extended)


@pytest.mark.parametrize("syntax", WITH_END_MARKER, ids=lambda uid: uid.name)
def test_a_frame_is_a_whole_picture_in_any_number_of_fragments(syntax: UID) -> None:
    pictures = [_compress(pixels, syntax) for pixels in FRAMES]
    halves: list[bytes] = []
    for picture in pictures:
        halves += [picture[:1000], picture[1000:] + bytes(100)]

    wrong_table = bytes(12)
    _assert_frames(syntax, _items(wrong_table, *halves))
    _assert_frames(syntax, _items(wrong_table, *pictures, bytes(64)))
    _assert_frames(syntax, _items(wrong_table, bytes(100).join(pictures)))


def test_a_jpeg_that_names_its_components_r_g_and_b_is_read_so() -> None:
    """Without Adobe's marker, which such files of cameras lack."""
    coded = io.BytesIO()
    Image.fromarray(EYE).save(coded, "JPEG", quality=95, keep_rgb=True)
    _assert_colors(encapsulate([_without_markers(coded.getvalue())]), JPEGBaseline8Bit, "RGB")


def test_a_subsampled_jpeg_is_no_rgb_whatever_its_label() -> None:
    subsampled = simplejpeg.encode_jpeg(EYE, 95, colorsubsampling="422")
    _assert_colors(encapsulate([_without_markers(subsampled)]), JPEGBaseline8Bit, "RGB")


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT"])
def test_a_jpeg_2000_with_component_transform_is_rgb_whatever_its_label(label: str) -> None:
    for is_boxed in (False, True):
        picture = encode_jpeg_2000(EYE, has_transform=True, is_boxed=is_boxed)
        _assert_colors(encapsulate([picture]), JPEG2000Lossless, label)


def test_the_length_of_uncompressed_pixels_proves_their_sampling() -> None:
    ybr = convert_color_space(EYE, "RGB", "YBR_FULL")
    _assert_colors(ybr.tobytes(), ExplicitVRLittleEndian, "YBR_FULL_422")

    pairs = np.dstack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]])
    _assert_colors(pairs.tobytes(), ExplicitVRLittleEndian, "YBR_FULL_422")
    _assert_colors(pairs.tobytes(), ExplicitVRLittleEndian, "YBR_FULL")


@pytest.mark.parametrize("coding", ["RGB", "YBR_FULL"])
def test_values_prove_their_colors_where_the_label_fits_neither(coding: str) -> None:
    values = convert_color_space(EYE, "RGB", coding) if coding != "RGB" else EYE
    picture = encode_jpeg_2000(values, has_transform=False)
    _assert_colors(values.tobytes(), ExplicitVRLittleEndian, "YBR_FULL_422")
    _assert_colors(values.tobytes(), ExplicitVRLittleEndian, "YBR_RCT")
    _assert_colors(encapsulate([picture]), JPEG2000Lossless, "YBR_ICT")


def test_a_label_that_nothing_corrects_is_named() -> None:
    undecided = EYE.copy()
    undecided[:] = 128  # inside the range of both codings, but for a part
    undecided[:4] = 0
    two_bytes = bytes(EYE.size * 2 // 3)

    for pixel_data, label, n_frames in (
        (undecided.tobytes(), "YBR_FULL_422", 1),
        (two_bytes, "RGB", 1),
        (EYE.tobytes() * 2, "YBR_FULL_422", 2),
    ):
        file = dicom(pixel_data, PhotometricInterpretation=label, NumberOfFrames=n_frames)
        with pytest.raises(PhotoError, match=f"labels its colors {label}") as refused:
            Photo.open(data_of(file), dicom_frame=1)
        assert refused.value.code == "E_FORMAT"


def _without_markers(jpeg: bytes) -> bytes:
    """A JPEG without the markers of JFIF and Adobe, which state how colors are coded."""
    plain = jpeg[:2]
    start = 2
    while jpeg[start + 1] != 0xDA:
        end = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
        if jpeg[start + 1] not in (0xE0, 0xEE):
            plain += jpeg[start:end]
        start = end
    return plain + jpeg[start:]


def _assert_colors(pixel_data: bytes, syntax: UID, label: str) -> None:
    """The drawn eye is read, whatever the label."""
    photo = Photo.open(data_of(dicom(pixel_data, syntax, PhotometricInterpretation=label)))
    assert np.abs(photo.pixels.astype(int) - EYE).mean() < 3, "levels of 255, in the mean"


def test_threads_leave_the_filters_of_warnings_as_they_were() -> None:
    data = data_of(dicom())
    before = list(warnings.filters)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Photo.open, [data] * 48))
    assert warnings.filters == before
