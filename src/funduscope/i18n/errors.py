"""Errors about files and settings that people bring, each with a code of `error_codes`."""

from __future__ import annotations

import errno
import re
from typing import Final

from funduscope.i18n.error_codes import ERROR_CODES

HTTP_STATUS: Final = {code: entry.http_status for code, entry in ERROR_CODES.items()}
"""Every error code with the HTTP status that a service answers with."""


class CodedError(Exception):
    """An error with a code of `error_codes` and one English sentence.

    The sentence says what came, what was expected and what to do.
    """

    def __init__(self, code: str, says: str) -> None:
        super().__init__(code, says)
        self.code = code
        self.says = says

    def __str__(self) -> str:
        return self.says


PHOTO_FAULT: Final = "an unexpected error occurred while this photo was read"


class PhotoError(CodedError):
    """A photo that cannot be read or exceeds a limit. The sentence contains no file name, so that it can be logged."""


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names each key, what was given and what was expected."""


MEMORY: Final = (
    "this machine has too little free memory; expected about 1 GB for a photo and more for a training: close other "
    "programs, or use a machine with more, and run it again"
)
_DISK: Final = {
    errno.ENOSPC: "the disk is full: free some space or name a folder on another disk, and run it again",
    errno.EDQUOT: "your share of the disk is used up: free some space or name another disk, and run it again",
    errno.EFBIG: "a file would be larger than this system allows: name a folder on another disk, or raise the limit, "
    "and run it again",
    errno.EROFS: "the disk can only be read: name a folder that can be written, or copy this one to where it can be, "
    "and run it again",
    errno.EACCES: "the folder may not be written: name one that may be, or change its permissions, and run it again",
    errno.EIO: "the disk reports a fault (input/output error): name a folder on another disk, run it again, and check "
    "this disk",
}
SHARED_MEMORY: Final = (
    "this system gives no shared memory (/dev/shm): mount it, in a container with --shm-size=1g, or train with "
    "--set training.workers=0"
)
LOADER_KILLED: Final = (
    "a process that loads photos was ended from outside (often: too little memory): close other programs, or set "
    "training.workers=0; the same command continues from the last epoch"
)
_OS_NUMBER: Final = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
_NO_MEMORY: Final = re.compile(
    r"insufficient memory|bad.?alloc|can't allocate memory|failed to allocate|cannot allocate|out of memory"
    r"|failed to map segment|cannot map zero-fill pages",
    re.IGNORECASE,
)
_NO_SHARED_MEMORY: Final = re.compile(r"shared memory object|shm_open|out of shared memory|/dev/shm")


def machine_fault(error: BaseException) -> CodedError | None:
    """What the machine refused, as E_MEMORY or E_DISK with a sentence of cause and remedy; None for any other error.

    Libraries say it in their own ways: OpenCV, ONNX Runtime and torch have no `MemoryError`, safetensors no `OSError`.
    The sentence names no file.
    """
    may_say = isinstance(error, RuntimeError | OSError | ImportError) or _is_foreign(error)
    text = str(error) if may_say else ""
    if _NO_SHARED_MEMORY.search(text) or (isinstance(error, OSError) and "/dev/shm" in str(error.filename)):
        return CodedError("E_MEMORY", SHARED_MEMORY)
    if "is killed by signal: Killed" in text:  # torch's of a loading process
        return CodedError("E_MEMORY", LOADER_KILLED)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return CodedError("E_MEMORY", MEMORY)
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (named := _OS_NUMBER.search(text)):
        number = int(named[1] or named[2])
    if number in _DISK:
        return CodedError("E_DISK", _DISK[number])
    return CodedError("E_MEMORY", MEMORY) if _NO_MEMORY.search(text) else None


def is_machine_fault(error: BaseException) -> bool:
    """Whether the machine refused something: as it raises it, or as an error of this package that says so."""
    return getattr(error, "code", None) in ("E_MEMORY", "E_DISK") or machine_fault(error) is not None


def refuse_machine_fault(error: Exception) -> None:
    """Raises the error again if it is not the photo's fault but the machine's, which may lack memory or disk."""
    if is_machine_fault(error):
        raise error


def code_and_sentence(error: Exception, fault: str = PHOTO_FAULT) -> tuple[str, str]:
    """The code and the sentence of an error.

    An error of this package has its own, and so has what the machine refuses. Any other is a `fault` to report: it says
    its kind and no more, since its text may quote a photo's metadata.
    """
    code, says = getattr(error, "code", None), getattr(error, "says", None)
    if code in HTTP_STATUS and isinstance(says, str):
        return code, says
    if refused := machine_fault(error):
        return refused.code, refused.says
    return "E_INTERNAL", f"{fault} ({type(error).__name__}): please report it"


def _is_foreign(error: BaseException) -> bool:
    """Whether an error is of a library whose errors have no common base class."""
    return type(error).__module__.partition(".")[0] in (
        "cv2",
        "onnxruntime",
        "safetensors",
        "safetensors_rust",
        "torch",
    )
