"""Messages about a photo or an answer: a code, its values, and an English sentence made of both.

The sentences are in strings/findings.toml, by code, in every language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from funduscope.i18n.languages import Words

_ENGLISH: Final = Words("en")


@dataclass(frozen=True, slots=True)
class Message:
    """A code, its values, and the English sentence for people."""

    code: str
    text: str
    values: dict[str, Any] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """As in findings.json."""
        return {"code": self.code, "values": dict(self.values), "says": self.text}


def message(code: str, values: Mapping[str, Any] | None = None) -> Message:
    """The message of a code. values: plain numbers and texts, and `kinds`, a list of structures' codes.

    Raises `KeyError` for a code that has no sentence.
    """
    values = dict(values or {})
    return Message(code, _ENGLISH.sentence(code, values), values)
