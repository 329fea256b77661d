"""One table of strings for every language: what findings say by code and values, what the page and paper say.

A sentence is made of a code and its values, never of a sentence in another language. The tables are TOML files in
strings/, a key's line for each language; English for findings' codes stands with the findings themselves.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any, Final

from funduscope.vocabulary import structure

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "de": "Deutsch", "es": "Español", "hi": "हिन्दी"}
"""Code and own name of every language that the tables speak."""

TABLES: Final = ("findings", "errors", "page", "paper")
_COMMA: Final = frozenset({"de", "es"})
"""Languages that write a decimal comma."""


class Words:
    """What is said in one language; a code that a table does not know yet is said in English."""

    def __init__(self, language: str = "en") -> None:
        if language not in LANGUAGES:
            raise ValueError(f"No words in {language!r}; known: {', '.join(LANGUAGES)}.")
        self.language = language
        self._numbers = _Numbers(language in _COMMA)

    def __call__(self, key: str, values: Mapping[str, Any] | None = None) -> str:
        """The text of that key on the page or on paper, filled with values. Raises `KeyError` for an unknown key."""
        return self._filled(self.template(key), values or {})

    def template(self, key: str) -> str:
        """The text of that key with its placeholders, for those who fill them elsewhere."""
        return _texts()[key][self.language]

    def has(self, key: str) -> bool:
        """Whether there is such a text: what the vocabulary got yesterday may have none yet."""
        return key in _texts()

    def message(self, note: Mapping[str, Any]) -> str:
        """The sentence of a note as findings.json holds it: its code and values, in this language."""
        row = _table("findings").get(note["code"], {})
        if self.language == "en" or self.language not in row:
            return note["says"]
        return self._filled(row[self.language], note["values"])

    def error(self, code: str, says: str, values: Mapping[str, Any]) -> str:
        """Why a photo was refused. says: the English sentence; values: the limits that a sentence may name."""
        row = _table("errors").get(code, {})
        if self.language == "en" or self.language not in row:
            return says[:1].upper() + says[1:].rstrip(".") + "."
        return self._filled(row[self.language], values)

    def number(self, value: float, form: str) -> str:
        """A number as this language writes it; form: as in `format`."""
        return self._numbers.format_field(float(value), form)

    def structure(self, code: str) -> str:
        """The name of a structure, as it begins a line; the vocabulary's own where the table does not know it yet."""
        key = f"structure.{code}"
        return self(key) if self.has(key) else structure(code).name

    def kinds(self, codes: list[str]) -> str:
        """Structures' names in a row, as they begin a sentence."""
        names = [self.structure(code) for code in codes]
        # German writes nouns with a capital anywhere, but not the adjective before one.
        lowered = [name[:1].lower() + name[1:] if self.language != "de" or " " in name else name for name in names[1:]]
        names = [names[0], *lowered]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {self('list.and')} {names[-1]}"

    def _filled(self, text: str, values: Mapping[str, Any]) -> str:
        said = dict(values)
        if "kinds" in said:
            said["kinds"] = self.kinds(list(said["kinds"]))
        return self._numbers.vformat(text, (), said)


class _Numbers(Formatter):
    """Formats as `str.format` does, with a decimal comma where the language has one."""

    def __init__(self, comma: bool) -> None:
        self._comma = comma

    def format_field(self, value: Any, format_spec: str) -> str:
        text = super().format_field(value, format_spec)
        return text.replace(".", ",") if self._comma and isinstance(value, float) else text


def placeholders(text: str) -> frozenset[str]:
    """The names of the values that a text is filled with."""
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name)


@cache
def _table(name: str) -> Mapping[str, Mapping[str, str]]:
    file = resources.files("funduscope").joinpath("i18n", "strings", f"{name}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


@cache
def _texts() -> Mapping[str, Mapping[str, str]]:
    """What is said by key rather than by a finding's code."""
    return {**_table("page"), **_table("paper")}


def rows(name: str) -> Mapping[str, Mapping[str, str]]:
    """A whole table, key to language to text; name: one of `TABLES`."""
    return _table(name)
