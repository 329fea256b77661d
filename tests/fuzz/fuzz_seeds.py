"""The intact files that `tests.fuzz.fuzz` damages: small ones of every kind, made by code."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from funduscope.testing.drawn_eyes import draw_eye

SIDE: Final = 300


@cache
def eye() -> np.ndarray:
    """A drawn eye, (300, 300, 3) uint8 RGB."""
    return cv2.resize(draw_eye(3, width_px=480).pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def photos() -> list[bytes]:
    """JPEG (baseline, progressive, CMYK, gray, with EXIF), PNG (also with a palette and 16 bits), TIFF, BMP, WebP."""
    rgb = Image.fromarray(eye())
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    deep = io.BytesIO()
    Image.fromarray(eye()[..., 0].astype(np.uint16) * 257).save(deep, "PNG")
    wide = cv2.imencode(".tif", eye().astype(np.uint16) * 257)[1].tobytes()
    return [
        _saved(rgb, "JPEG", quality=70, exif=exif),
        _saved(rgb, "JPEG", quality=40, progressive=True),
        _saved(rgb.convert("CMYK"), "JPEG", quality=40),
        _saved(rgb.convert("L"), "JPEG", quality=40),
        _saved(rgb, "PNG", compress_level=9),
        _saved(rgb.quantize(16), "PNG"),
        deep.getvalue(),
        _saved(rgb, "TIFF", compression="tiff_lzw"),
        _saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
        wide,
        _saved(rgb, "BMP"),
        _saved(rgb, "WEBP", quality=40),
    ]


def dicom_files() -> list[bytes]:
    """Uncompressed, deflated, JPEG and of two frames."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        UID,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGBaseline8Bit,
    )

    def made(syntax: UID, pixels: bytes, frames: int = 1) -> bytes:
        one = pydicom.Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = syntax
        one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.3"
        one.PatientName, one.ImageLaterality, one.NumberOfFrames = "No^One", "R", frames
        one.Rows, one.Columns, one.SamplesPerPixel = SIDE, SIDE, 3
        one.PlanarConfiguration, one.PixelRepresentation = 0, 0
        one.PhotometricInterpretation = "YBR_FULL_422" if syntax == JPEGBaseline8Bit else "RGB"
        one.BitsAllocated, one.BitsStored, one.HighBit = 8, 8, 7
        one.PixelSpacing, one.AcquisitionDateTime = [0.03, 0.03], "20250101120000"
        one.PixelData = pixels
        one["PixelData"].VR = "OB"
        file = io.BytesIO()
        pydicom.dcmwrite(file, one, enforce_file_format=True)
        return file.getvalue()

    raw = eye().tobytes()
    jpeg = encapsulate([_saved(Image.fromarray(eye()), "JPEG", quality=60)])
    return [
        made(ExplicitVRLittleEndian, raw),
        made(ImplicitVRLittleEndian, raw),
        made(DeflatedExplicitVRLittleEndian, raw),
        made(JPEGBaseline8Bit, jpeg),
        made(ExplicitVRLittleEndian, raw * 2, 2),
    ]


def tables() -> list[bytes]:
    """Tables of a photo `eye.jpg` next to them, with commas and with semicolons."""
    head = "path,dr,dme,od_x,od_y,fovea_x,fovea_y,patient,quality,eye,fold,mask_EX,empty_masks"
    row = "eye.jpg,2,1,200.5,150,110,150.25,anna,good,left,0,none,absent"
    text = f"{head}\r\n{row}\r\n"
    return [text.encode(), b"\xef\xbb\xbf" + text.replace(",", ";").encode(), text.encode("utf-16")]


def photo_tables() -> list[bytes]:
    """Tables that name photos for a batch: commas, semicolons, and Parquet, also compressed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {
        "path": ["a/1.jpg", "a/2.jpg", "b/1.jpg"],
        "patient": ["anna", "anna", "bert"],
        "eye": ["OD", "left", ""],
        "visit": ["1", "1", "2"],
        "date": ["2026-01-02", "2026-01-02", "2026-02-03"],
        "camera": ["one", "two", "two"],
        "clinic": ["north", "north", "south"],
    }
    text = "\r\n".join([",".join(rows), *map(",".join, zip(*rows.values(), strict=True)), ""])
    made = [text.encode(), b"\xef\xbb\xbf" + text.replace(",", ";").encode()]
    for kind, packer in (({}, "none"), ({"visit": [1, 1, 2]}, "snappy")):
        file = io.BytesIO()
        pq.write_table(pa.table(rows | kind), file, compression=packer)
        made.append(file.getvalue())
    return made


def entry() -> dict[str, object]:
    """A photo's corrections as `app.export_labels` writes them."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[50:60, 70:90] = True
    png = b64encode(_saved(Image.fromarray(mask), "PNG")).decode()
    return {
        "name": "eye.png",
        "sha256": "0" * 64,
        "path": "photos/001.png",
        "width": SIDE,
        "height": SIDE,
        "grade": 2,
        "dme": 1,
        "classes": {},
        "disc_xy": [200.5, 150],
        "fovea_xy": [110, 150.25],
        "corrected": ["EX"],
        "looked_at": ["HE"],
        "unfinished": {"EX": png},
        "masks": {"HE": "masks/001_HE.tif"},
    }


def corrections() -> list[bytes]:
    """The JSON of one photo's corrections, as in a draft."""
    return [json.dumps(entry()).encode()]


def archives() -> list[bytes]:
    """Saved corrections, deflated and stored."""
    text = corrections()[0]
    return [archive_of(text), archive_of(text, zipfile.ZIP_STORED)]


def archive_of(text: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The archive of one photo with this JSON as its corrections."""
    from funduscope.app.export_labels import MANIFEST, SCHEMA

    manifest = b'{"schema": "%s", "photos": [%s]}' % (SCHEMA.encode(), text)
    return zip_of(
        {f"corrections/{name}": data for name, data in _pictures()} | {f"corrections/{MANIFEST}": manifest}, compression
    )


@cache
def _pictures() -> tuple[tuple[str, bytes], ...]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:30] = 255
    return (
        ("photos/001.png", _saved(Image.fromarray(eye()), "PNG")),
        ("masks/001_HE.tif", _saved(Image.fromarray(mask), "TIFF", compression="tiff_lzw")),
    )


def photo_archives() -> list[bytes]:
    """Three photos in a zip and in a tar, plain and compressed."""
    parts = {f"patient{number}/eye{number}.jpg": data for number, data in enumerate(photos()[:3])}
    return [zip_of(parts), tar_of(parts), tar_of(parts, "gz"), tar_of(parts, "xz")]


def tar_of(parts: dict[str, bytes], packer: Literal["", "gz", "xz"] = "") -> bytes:
    """A tar of these files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{packer}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def zip_of(parts: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def checkpoints() -> list[bytes]:
    """A checkpoint of two small tensors."""
    import tempfile
    from pathlib import Path

    import torch

    from funduscope import checkpoint
    from funduscope.inference.card import Card
    from funduscope.recipe import Recipe

    recipe = Recipe.load("plain")
    card = Card.of(recipe).to_dict()
    weights = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "full.safetensors")
        checkpoint.save(path, recipe, {"weights": weights}, card, {"epoch": 1})
        return [path.read_bytes()]


def onnx_checkpoints() -> list[bytes]:
    """An ONNX file with the weights to start a training from: one in its graph, one next to it."""
    import tempfile
    from pathlib import Path

    import torch

    from funduscope import checkpoint
    from funduscope.recipe import Recipe

    weights = {"weights/grade": torch.eye(3, 5), "weights/other": torch.full((2, 3), 0.5)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model_with(cards()[0]))
        checkpoint.embed(path, checkpoint.Checkpoint(Recipe.load("plain"), {}, {}, weights))
        return [path.read_bytes()]


def cards() -> list[bytes]:
    """The JSON of a model's card: a plain one, and one with every optional part."""
    from funduscope.inference.card import Card
    from funduscope.inference.ood import fit_reference
    from funduscope.inference.witnesses import Witness

    plain = Card(whole_px=64, close_px=128)
    rich = Card(
        whole_px=64, close_px=128, mirrored=True, grade_quantile=0.9, lowest_grades={"EX": 2},
        fovea_from_disc=(0.2, 0.02, 0.0, 0.02),
    )  # fmt: skip
    witness = Witness(("EX strong", "MA count 0.5"), (0.0, 1.0), (1.0, 2.0), (0.5, 0.5), (0.0, 1.0), (0.5, 0.5))
    features = np.random.default_rng(0).normal(size=(60, 3))
    reference = fit_reference(features[:30], features[30:])
    assert reference is not None
    rich = replace(rich, witnesses={"dme": witness.to_tree()}, distance=reference.to_tree())
    return [plain.to_json().encode(), rich.to_json().encode()]


TASKS: Final = ("grade", "dme", "features")
"""Outputs of the fuzzed ONNX file that are a row for each photo."""


def model_with(card: bytes) -> bytes:
    """An ONNX file that answers from colors alone and finds structures and landmarks anywhere, with this text as its
    card."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Identity", ["mean"], ["features"]),
        *(helper.make_node("MatMul", ["mean", f"{task}_w"], [task]) for task in ("grade", "dme")),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        *(helper.make_node("Conv", ["planes", f"{name}_w"], [name]) for name in ("structures", "landmarks")),
    ]
    weights = {"grade_w": np.eye(3, 5, dtype=np.float32), "dme_w": np.eye(3, dtype=np.float32)}
    weights |= {"structures_w": np.eye(5, 3, dtype=np.float32)[..., None, None] - np.float32(0.3)}
    weights |= {"landmarks_w": np.eye(2, 3, dtype=np.float32)[..., None, None]}
    graph = helper.make_graph(
        nodes,
        "fuzz",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", "H", "W", 3])],
        [
            *(helper.make_tensor_value_info(task, TensorProto.FLOAT, [None] * 2) for task in TASKS),
            *(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4)
                for name in ("structures", "landmarks")
            ),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    one = model.metadata_props.add()
    one.key, one.value = "card", card.decode("utf-8", "replace")
    return model.SerializeToString()


def recipes() -> list[bytes]:
    """Every built-in recipe as TOML."""
    from funduscope.recipe import builtin_recipes

    return [text.encode() for text in builtin_recipes().values()]


SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "photo": photos,
    "dicom": dicom_files,
    "table": tables,
    "photo_table": photo_tables,
    "photo_archive": photo_archives,
    "archive": archives,
    "checkpoint": checkpoints,
    "onnx_checkpoint": onnx_checkpoints,
    "card": cards,
    "corrections": corrections,
    "recipe": recipes,
}
"""By kind what makes its intact files."""


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # pyright: ignore[reportArgumentType]
    return file.getvalue()
