"""From an error to one sentence for people and the exit code of the process."""

from __future__ import annotations

import errno
from typing import Final

import typer

from funduscope.i18n.errors import RecipeError, machine_fault

NOTHING_DONE: Final = 1
WRONG_USE: Final = 2

# Packages that only an extra installs, and the extra's name.
_TRAINING: Final[tuple[str, ...]] = (
    "accelerate", "filelock", "jaxtyping", "matplotlib", "onnx", "pandas", "pydantic", "safetensors",
    "segmentation_models_pytorch", "tensorboard", "timm", "tomli_w", "torch",
)  # fmt: skip
_EXTRAS: Final[dict[str, str]] = dict.fromkeys(_TRAINING, "train") | {
    **dict.fromkeys(("reportlab", "uharfbuzz"), "report"),
    **dict.fromkeys(("highdicom", "pydicom"), "dicom"),
    "streamlit": "app",
    "pyarrow": "batch",
    "ray": "scale",
    **dict.fromkeys(("fastapi", "prometheus_client", "starlette", "uvicorn"), "serve"),
}
_NO_HOME: Final = "Could not determine home directory."  # pathlib's words
# The base class of the command line's errors, which typer does not export.
_USAGE_ERROR: Final = typer.BadParameter.__mro__[1]


def explain(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code. The text of this package's own errors is such a sentence already."""
    if isinstance(error, _USAGE_ERROR):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "funduscope"
        says: str = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        stop = "" if says.endswith((".", "?")) else "."
        return f"{says}{stop} See `{command} --help`.", WRONG_USE
    if type(error).__module__.partition(".")[0] == "funduscope":
        return str(error), WRONG_USE if isinstance(error, RecipeError) else NOTHING_DONE
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get((error.name or "").partition(".")[0])):
        return f"this needs {error.name}: pip install '.[{extra}]' in the clone of funduscope", NOTHING_DONE
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename is not None else ""
    if fault := machine_fault(error):
        return f"{where}{fault.says}", NOTHING_DONE
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: ask for fewer processes, or raise the limit (ulimit -n)", NOTHING_DONE
    if isinstance(error, RuntimeError) and str(error) == _NO_HOME:
        return "this user has no home folder: set HOME to a folder that may be written", NOTHING_DONE
    if isinstance(error, OSError):  # one of this package has no number and is a sentence
        return str(error) if error.errno is None else f"the system refused {where}{error.strerror}", NOTHING_DONE
    return f"unexpected {type(error).__name__}: {error}. --debug shows where; please report it.", NOTHING_DONE
