"""Reads a photograph of the back of the eye: retinopathy grade, edema risk, lesions, disc and fovea, in its own pixels.

    import funduscope as fs

    model = fs.load()                        # the shipped model; or an ONNX file, a run folder, a list (an ensemble)
    findings = model("eye.jpg")              # a path, bytes, a PIL image, or an (H, W, 3) uint8 RGB array
    findings.grade, findings.mask("EX")

The same package trains, scores, exports and compares such models: docs/python.md has examples. The command line calls
the same functions. Everything is imported when it is first asked for, so that `import funduscope` costs next to
nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from funduscope.version import __version__

if TYPE_CHECKING:
    from funduscope.compare.report import compare_runs
    from funduscope.data.case import Case, Labels
    from funduscope.data.sources import read_data
    from funduscope.dicom.results import to_dicom
    from funduscope.doctor.examine import Report, check_data
    from funduscope.evaluation.evaluate import evaluate
    from funduscope.evaluation.scores import Scores
    from funduscope.export.run import export_run
    from funduscope.i18n.errors import PhotoError
    from funduscope.imaging.photo import Photo
    from funduscope.inference.ensemble import Ensemble
    from funduscope.inference.findings import Failure, Findings
    from funduscope.inference.loading import load
    from funduscope.inference.predictor import Predictor
    from funduscope.inference.runtime import ModelError
    from funduscope.recipe import Recipe as Recipe
    from funduscope.report.fhir import to_fhir
    from funduscope.report.notebook import show
    from funduscope.report.write import save
    from funduscope.training.train import Run, train

# ONNX Runtime (1.31 on Linux) otherwise writes an identifier of the machine into the user's home when it is loaded, and
# queues events for a server of its maker; its own `disable_telemetry_events` comes too late for both.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# `Recipe` is not listed: it needs pydantic, of the extra `train`, and `import *` must work without.
__all__ = [
    "Case", "Ensemble", "Failure", "Findings", "Labels", "ModelError", "Photo", "PhotoError", "Predictor",
    "Report", "Run", "Scores", "__version__", "check_data", "compare_runs", "evaluate", "export_run", "load",
    "read_data", "save", "show", "to_dicom",
    "to_fhir", "train",
]  # fmt: skip

# None of these names is a submodule's: importing that would put the module in the function's place.
_MODULES = {
    "Case": "funduscope.data.case",
    "Ensemble": "funduscope.inference.ensemble",
    "Failure": "funduscope.inference.findings",
    "Findings": "funduscope.inference.findings",
    "Labels": "funduscope.data.case",
    "ModelError": "funduscope.inference.runtime",
    "Photo": "funduscope.imaging.photo",
    "PhotoError": "funduscope.i18n.errors",
    "Predictor": "funduscope.inference.predictor",
    "Recipe": "funduscope.recipe",
    "Report": "funduscope.doctor.examine",
    "Run": "funduscope.training.train",
    "Scores": "funduscope.evaluation.scores",
    "check_data": "funduscope.doctor.examine",
    "compare_runs": "funduscope.compare.report",
    "evaluate": "funduscope.evaluation.evaluate",
    "export_run": "funduscope.export.run",
    "load": "funduscope.inference.loading",
    "read_data": "funduscope.data.sources",
    "save": "funduscope.report.write",
    "show": "funduscope.report.notebook",
    "to_dicom": "funduscope.dicom.results",
    "to_fhir": "funduscope.report.fhir",
    "train": "funduscope.training.train",
}


if not TYPE_CHECKING:  # which knows the names above, and so finds a misspelled one

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'funduscope' has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
