"""What can go wrong with what people bring, named once: stable codes, their HTTP status, and notes in words.

`docs/errors.md` lists the codes with what they mean and what to do; a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

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
"""Every error code with the HTTP status a service answers with. Codes are never renamed."""


class PhotoError(Exception):
    """A photo that cannot be read or breaks a limit.

    `code` is one of `CODES`; `says` is one sentence: what came, what was expected, what to do. It never holds a file
    name, so that it can be logged.
    """

    def __init__(self, code: str, says: str) -> None:
        super().__init__(code, says)
        self.code = code
        self.says = says

    def __str__(self) -> str:
        return self.says


@dataclass(frozen=True, slots=True)
class Message:
    """Something worth saying about a photo or an answer: a code, its values, and a sentence for people."""

    code: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"code": self.code, "values": dict(self.values), "says": self.text}
