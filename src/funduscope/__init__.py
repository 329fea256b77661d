"""Reads a photograph of the back of the eye: retinopathy grade, edema risk, lesions, disc and fovea, in its own pixels.

    import funduscope

    model = funduscope.load()                # the shipped model; or an ONNX file, a run folder, a list (an ensemble)
    findings = model("eye.jpg")              # a path, bytes, a PIL image, or an (H, W, 3) uint8 RGB array
    findings.grade, findings.mask("EX")

Everything is imported when it is first asked for, so that `import funduscope` costs next to nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from funduscope.version import __version__

if TYPE_CHECKING:
    from funduscope.i18n.errors import PhotoError
    from funduscope.imaging.photo import Photo
    from funduscope.inference.findings import Failure, Findings
    from funduscope.inference.loading import load
    from funduscope.inference.predictor import Predictor
    from funduscope.inference.runtime import ModelError

# ONNX Runtime (1.31 on Linux) else writes an identifier of the machine into the user's home when it is loaded, and
# queues events for a server of its maker; its own `disable_telemetry_events` comes too late for both.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Failure", "Findings", "ModelError", "Photo", "PhotoError", "Predictor", "__version__", "load"]

_HOMES = {
    "Failure": "funduscope.inference.findings",
    "Findings": "funduscope.inference.findings",
    "ModelError": "funduscope.inference.runtime",
    "Photo": "funduscope.imaging.photo",
    "PhotoError": "funduscope.i18n.errors",
    "Predictor": "funduscope.inference.predictor",
    "load": "funduscope.inference.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'funduscope' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
