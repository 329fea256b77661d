"""Every error code with its HTTP status and what it means: the one table of them.

The tables of docs/errors.md, the service's OpenAPI document and `errors.HTTP_STATUS` are made of
it. A raised error has a sentence of its own, more exact than the meaning here; strings/errors.toml
has it in other languages. Codes are never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a code says to the service's clients and to readers of the documents."""

    http_status: int

    meaning: str
    """What came, without a capital and a full stop."""

    remedy: str
    """What to do, written likewise."""

    @property
    def sentence(self) -> str:
        """Meaning and remedy in one sentence."""
        return f"{self.meaning}: {self.remedy}"


PHOTO_CODES: Final[dict[str, ErrorCode]] = {
    "E_NOT_FOUND": ErrorCode(
        404,
        "no such file, it may not be read, or the path is a device or a dead link",
        "check the path and its permissions",
    ),
    "E_EMPTY": ErrorCode(400, "the file has no bytes", "copy or upload it again"),
    "E_TOO_LARGE": ErrorCode(
        413,
        "more bytes than the limit (200 MB; of a request `--max-body`, 64 MB), a deflated DICOM "
        "file that expands to more than 100 MB, or an archive that expands too far",
        "save it smaller; an ordinary photo has 0.1 to 30 MB",
    ),
    "E_FORMAT": ErrorCode(
        415,
        "by its content it is no JPEG, PNG, TIFF or DICOM photo of a kind that is read",
        "export it as an ordinary JPEG, PNG or TIFF; an array must be uint8 RGB, (H, W, 3)",
    ),
    "E_TRUNCATED": ErrorCode(
        422,
        "the file ends too early, even by one byte, or a DICOM file holds fewer pictures than "
        "frames; missing parts are never filled with gray",
        "copy it again from where it came",
    ),
    "E_CORRUPT": ErrorCode(
        422,
        "the data are damaged: flipped bits, wrong checksums, a contradictory structure",
        "copy it again from where it came",
    ),
    "E_TOO_MANY_PIXELS": ErrorCode(
        422, "more pixels than the limit (80 million)", "resize the photo; 12 million are plenty"
    ),
    "E_TOO_SMALL": ErrorCode(
        422,
        "the shorter side has fewer than 256 pixels, or less than a quarter of the longer side's",
        "send the original, not a thumbnail or a strip",
    ),
    "E_MULTIPAGE": ErrorCode(
        422,
        "the TIFF, animated PNG or JPEG (MPO) holds several pictures of full size, the DICOM file "
        "more than 16 frames or more pictures than it states, or several where one photo is "
        "expected",
        "save each as a file, or name the frame",
    ),
    "E_DEPTH": ErrorCode(
        422,
        "values that are not whole numbers of 8 or 16 bits (floating point, signed, 32 bits, a "
        "12-bit JPEG), or DICOM colors of more than 8 bits",
        "convert it to 8 or 16 bits per channel",
    ),
    "E_SOP_CLASS": ErrorCode(
        422,
        "the DICOM object is of no class of color photographs of 8 bits, as an OCT volume, an "
        "ultrasound, a widefield projection or Ophthalmic Photography 16 Bit",
        "send the photo as Ophthalmic, VL Photographic, VL Endoscopic or Secondary Capture",
    ),
    "E_BURNED_IN": ErrorCode(
        422,
        "the DICOM photo has text burned into it, and names would be copied with it",
        "export it without annotation",
    ),
    "E_METADATA": ErrorCode(
        422,
        "texts, tags or color profile expand to more than 8 MB, a way to exhaust memory",
        "save it again without metadata",
    ),
}
"""A photo that cannot be read."""

PROGRAM_CODES: Final[dict[str, ErrorCode]] = {
    "E_MODEL": ErrorCode(
        500,
        "the model file or run folder is missing or cannot be loaded",
        "give an ONNX file or a run folder of this program",
    ),
    "E_WEIGHTS": ErrorCode(
        500,
        "the weights are damaged, not of this recipe, or have values that are no numbers",
        "fetch them again, or use those written with this recipe",
    ),
    "E_HASH": ErrorCode(
        500,
        "a model file is not the one that is named with it (in the `.scores.json` of a shipped "
        "model, the `export.json` of an exported one, the checkpoint itself)",
        "fetch it again, or export the run again; do not use it",
    ),
    "E_CONFIG": ErrorCode(
        422,
        "a setting, a port, a value of the query, a clinic's table of urgency or the recipe "
        "inside a model cannot be used, a device is not there (`--device cuda` without a GPU or "
        "without onnxruntime-gpu), or `--out` holds something else where a photo's results would "
        "go",
        "correct the setting that is named, or name another folder",
    ),
    "E_LABELS": ErrorCode(
        422,
        "the table of a batch, or a zip of saved corrections, cannot be read",
        "correct the row that is named",
    ),
    "E_MEMORY": ErrorCode(
        503,
        "the machine has too little free memory, or no shared memory (/dev/shm)",
        "close other programs or use a machine with more; in a container give `--shm-size=1g`, or"
        " train with `--set training.workers=0`",
    ),
    "E_DISK": ErrorCode(
        507,
        "the disk is full, may only be read, or reports a fault; no file is half-written",
        "free space or name another folder, and run it again; what was finished stays",
    ),
    "E_INTERNAL": ErrorCode(500, "a fault in this program", "report it with `--debug`'s output"),
}
"""Models, settings, labels and the machine."""

REQUEST_CODES: Final[dict[str, ErrorCode]] = {
    "E_REQUEST": ErrorCode(
        400,
        "the request cannot be read, or its form has no file or several",
        "send one photo, as the body or as the one file of a form",
    ),
    "E_TOKEN": ErrorCode(
        401,
        "no token came, or one that is not in the service's file",
        "send `Authorization: Bearer TOKEN`",
    ),
    "E_ORIGIN": ErrorCode(
        403,
        "a service without tokens was asked under a foreign name, or by a page of another site",
        "ask under 127.0.0.1 or localhost; for others, give it tokens",
    ),
    "E_METHOD": ErrorCode(405, "the path takes another method", "see /openapi.json"),
    "E_ACCEPT": ErrorCode(406, "no answer has the form that `Accept` asks for", "ask for another"),
    "E_SLOW": ErrorCode(408, "the photo came too slowly", "send it again over a better connection"),
    "E_BUSY": ErrorCode(
        503,
        "too many photos wait or are being sent, or the model is not ready",
        "send it again after the seconds in `Retry-After`",
    ),
    "E_DEADLINE": ErrorCode(
        503,
        "the photo was not read in time",
        "send it again later, or start the service with a longer `--deadline`",
    ),
}
"""Requests to the service."""

ERROR_CODES: Final[dict[str, ErrorCode]] = {**PHOTO_CODES, **PROGRAM_CODES, **REQUEST_CODES}
