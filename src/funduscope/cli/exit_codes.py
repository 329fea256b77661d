"""What went wrong, in one sentence for people, and the exit code that goes with it."""

from __future__ import annotations

from typing import Final

import typer

NOTHING_DONE: Final = 1
WRONG_USE: Final = 2

# What an extra brings that the package alone does not: `pip install 'funduscope[train]'`, `[app]`, `[report]`.
_TRAINING: Final[tuple[str, ...]] = (
    "accelerate", "matplotlib", "onnx", "safetensors", "segmentation_models_pytorch", "tensorboard", "timm", "torch"
)  # fmt: skip
_EXTRAS: Final[dict[str, str]] = dict.fromkeys(_TRAINING, "train") | {
    **dict.fromkeys(("reportlab", "uharfbuzz"), "report"),
    "streamlit": "app",
}
# The command line's own errors: typer names only the most special of them itself.
_USAGE_ERROR: Final = typer.BadParameter.__mro__[1]


def explain(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code. Every error class of this package holds a sentence for people already."""
    if isinstance(error, _USAGE_ERROR):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "funduscope"
        return f"{error.format_message()} See `{command} --help`.", WRONG_USE  # pyright: ignore[reportAttributeAccessIssue]
    if type(error).__module__.partition(".")[0] == "funduscope":
        from funduscope.recipe import RecipeError

        return str(error), WRONG_USE if isinstance(error, RecipeError) else NOTHING_DONE
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _EXTRAS:
        extra = _EXTRAS[(error.name or "").partition(".")[0]]
        return f"this needs {error.name}: pip install 'funduscope[{extra}]'", NOTHING_DONE
    if isinstance(error, OSError):
        return _of_system(error), NOTHING_DONE
    if isinstance(error, MemoryError):
        return "the memory of this machine does not suffice", NOTHING_DONE
    return f"unexpected {type(error).__name__}: {error}. --debug shows where; please report it.", NOTHING_DONE


def _of_system(error: OSError) -> str:
    """Disk full, no permission and the like; this package's own carry a whole sentence and no number."""
    if error.errno is None:
        return str(error)
    where = f" {error.filename}" if error.filename is not None else ""
    return f"the system refused{where}: {error.strerror}"
