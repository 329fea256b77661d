"""The options that several verbs of the command line share."""

from __future__ import annotations

import re
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer


class PaletteName(StrEnum):
    """Colors of the overlay and the report; `safe` is for color-blind eyes."""

    STANDARD = "standard"
    SAFE = "safe"


class LanguageName(StrEnum):
    """The languages of the report, the PDF pages and the patient leaflet."""

    EN = "en"
    DE = "de"
    ES = "es"
    HI = "hi"


class DeviceName(StrEnum):
    """Where a model computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Data = Annotated[
    list[Path],
    typer.Option(
        help="A data set's folder, a folder of several, or a table (.csv); repeatable.", exists=True, metavar="PATH"
    ),
]


def model_name(given: str) -> str:
    """What names a shipped model, a file or a folder. Raises `typer.BadParameter` if nothing is there."""
    from funduscope.inference.loading import SHIPPED, is_shipped  # not before a model is named: it takes a while

    if not is_shipped(given) and not Path(given).exists():
        names = ", ".join(SHIPPED)
        raise typer.BadParameter(f"{given!r} is not there: expected {names}, an ONNX file or a run folder.")
    return given


def named_once(given: list[str] | None) -> list[str] | None:
    """The models of an ensemble. Raises `typer.BadParameter` if one of them would count twice."""
    from funduscope.inference.loading import is_shipped, model_file, shipped_file  # it takes a while
    from funduscope.inference.runtime import ModelError

    seen = set[Path]()
    for name in given if given and len(given) > 1 else ():
        with suppress(ModelError):  # of what is no model, opening it says so
            file = (shipped_file(name) if is_shipped(name) else model_file(name)).resolve()
            if file in seen:
                raise typer.BadParameter(f"{name!r} was given twice: each model counts once in an ensemble.")
            seen.add(file)
    return given


ModelOption = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer before 0.17 reads no other spelling of it)
    typer.Option(
        help="default, fast, an ONNX file or a run folder; repeat it for an ensemble.",
        parser=model_name,
        callback=named_once,
        metavar="MODEL",
    ),
]
Threads = Annotated[
    int,
    typer.Option(help="Processor threads; 0 lets the runtime choose.", min=0, max=256, metavar="N", show_default=False),
]
DeviceOption = Annotated[
    DeviceName,
    typer.Option("--device", help="Where the model computes; auto takes a GPU where there is one it can use."),
]
Fold = Annotated[Optional[int], typer.Option(help="The test fold.", min=0, metavar="K")]  # noqa: UP045
AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]
OutFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Folder for the results.", file_okay=False, metavar="DIR"),
]
Workers = Annotated[int, typer.Option(help="Worker processes; 0 uses none.", min=0, max=256, metavar="N")]

# ---- of predict: what is written in addition ----

Pdf = Annotated[
    bool,
    typer.Option(
        "--pdf",
        help="Also write a PDF page per photo; for several, summary.pdf with all of the run (needs the extra report).",
    ),
]
Sheet = Annotated[
    bool,
    typer.Option("--sheet", help="Also write a leaflet in plain words for the patient (with --pdf, also as PDF)."),
]
Dicom = Annotated[
    bool,
    typer.Option(
        "--dicom", help="Also write DICOM SR and SEG objects; the input must be DICOM (needs the extra dicom)."
    ),
]
DicomOverlay = Annotated[
    bool, typer.Option("--dicom-overlay", help="As --dicom, with the overlay as a Secondary Capture.")
]
Fhir = Annotated[bool, typer.Option("--fhir", help="Also write a FHIR bundle (R4B) without patient data.")]


def _reference(given: str | None) -> str | None:
    from funduscope.report.fhir import REFERENCE

    if given is not None and not re.fullmatch(REFERENCE, given):
        raise typer.BadParameter(f"{given!r} is not a reference to a patient: expected one such as Patient/123.")
    return given


FhirSubject = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        callback=_reference,
        help="As --fhir, with this reference to the patient, such as Patient/123, in the bundle of every photo.",
        metavar="REFERENCE",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Also grade photos that would be refused; such answers are marked as not to be trusted."
    ),
]
