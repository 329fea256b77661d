"""Errors about files and settings that people bring: stable codes with their HTTP status.

`docs/errors.md` lists the codes with what they mean and what to do; a test keeps the two equal.
"""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, int]] = {
    "E_NOT_FOUND": 404,
    "E_EMPTY": 400,
    "E_TOO_LARGE": 413,
    "E_FORMAT": 415,
    "E_TRUNCATED": 422,
    "E_CORRUPT": 422,
    "E_TOO_MANY_PIXELS": 422,
    "E_TOO_SMALL": 422,
    "E_MULTIPAGE": 422,
    "E_DEPTH": 422,
    "E_METADATA": 422,
    "E_LABELS": 422,
    "E_CONFIG": 422,
    "E_MODEL": 500,
    "E_WEIGHTS": 500,
    "E_HASH": 500,
    "E_INTERNAL": 500,
}
"""Every error code with the HTTP status that a service answers with. Codes are never renamed."""


class CodedError(Exception):
    """An error with a code, one of `CODES`, and one English sentence: what came, what was expected and what to do."""

    def __init__(self, code: str, says: str) -> None:
        super().__init__(code, says)
        self.code = code
        self.says = says

    def __str__(self) -> str:
        return self.says


class PhotoError(CodedError):
    """A photo that cannot be read or exceeds a limit. The sentence contains no file name, so that it can be logged."""
