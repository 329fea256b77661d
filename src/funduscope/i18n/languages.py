"""The strings of every language, and what fills them: sentences of findings, errors, the page and the PDF.

A sentence is made of a code and its values, never of a sentence in another language. The tables are TOML files in
strings/: a key, then one line per language. The English text of an error comes with the error itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any, Final

from funduscope.vocabulary import PhotoTask, structure

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "de": "Deutsch", "es": "Español", "hi": "हिन्दी"}
"""Code and own name of every language that the tables have."""

_COMMA: Final = frozenset({"de", "es"})
"""Languages that write a decimal comma."""


class Words:
    """The strings of one language, filled with values. Raises `ValueError` for an unknown language."""

    def __init__(self, language: str = "en") -> None:
        if language not in LANGUAGES:
            raise ValueError(f"No words in {language!r}; known: {', '.join(LANGUAGES)}.")
        self.language = language
        self._numbers = _Numbers(language in _COMMA)

    def __call__(self, key: str, values: Mapping[str, Any] | None = None) -> str:
        """The text of a key of the page or the PDF, filled with values. Raises `KeyError` for an unknown key."""
        return self._filled(self.template(key), values or {})

    def template(self, key: str) -> str:
        """The text of a key with its placeholders, for callers that fill them elsewhere."""
        return _texts()[key][self.language]

    def has(self, key: str) -> bool:
        """Whether the key has a text: a new entry of the vocabulary may have none yet."""
        return key in _texts()

    def sentence(self, code: str, values: Mapping[str, Any]) -> str:
        """The sentence of a message's code and values. Raises `KeyError` for an unknown code."""
        return self._filled(string_table("findings")[code][self.language], values)

    def message(self, message: Mapping[str, Any]) -> str:
        """The sentence of a message as in findings.json; its English one if this language has none for the code."""
        if self.language == "en" or self.language not in string_table("findings").get(message["code"], {}):
            return message["says"]
        return self.sentence(message["code"], message["values"])

    def error(self, code: str, says: str, values: Mapping[str, Any]) -> str:
        """Why a photo was refused. says: the English sentence; values: the limits that a sentence may contain."""
        row = string_table("errors").get(code, {})
        if self.language == "en" or self.language not in row:
            return says[:1].upper() + says[1:].rstrip(".") + "."
        return self._filled(row[self.language], values)

    def number(self, value: float, form: str) -> str:
        """A number as this language writes it. form: as in `format`."""
        return self._numbers.format_field(float(value), form)

    def structure(self, code: str) -> str:
        """The name of a structure, capitalized as at the start of a line; the vocabulary's name if there is none."""
        key = f"structure.{code}"
        return self(key) if self.has(key) else structure(code).name

    def task(self, task: PhotoTask) -> str:
        """The name of a photo task; its title in the vocabulary if there is none."""
        key = f"{task.name}.title"
        return self(key) if self.has(key) else task.title

    def photo_class(self, task: PhotoTask, number: int) -> str:
        """The name of a class of a photo task; the vocabulary's if there is none."""
        key = f"{task.name}.{number}"
        return self(key) if self.has(key) else task.classes[number]

    def kinds(self, codes: list[str]) -> str:
        """The names of structures as a list, capitalized as at the start of a sentence."""
        names = [self.structure(code) for code in codes]
        # German writes nouns with a capital anywhere, but not the adjective before one.
        lowered = [name[:1].lower() + name[1:] if self.language != "de" or " " in name else name for name in names[1:]]
        names = [names[0], *lowered]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {self('list.and')} {names[-1]}"

    def _filled(self, text: str, values: Mapping[str, Any]) -> str:
        if "kinds" in values:
            values = {**values, "kinds": self.kinds(list(values["kinds"]))}
        if isinstance(grade := values.get("grade"), int) and self.has(f"grade.{grade}"):
            values = {"name": self(f"grade.{grade}"), **values}
        return self._numbers.vformat(text, (), values)


class _Numbers(Formatter):
    """Formats as `str.format` does, with a decimal comma if the language has one, and a space before a percent sign."""

    def __init__(self, comma: bool) -> None:
        self._comma = comma

    def format_field(self, value: Any, format_spec: str) -> str:
        text = super().format_field(value, format_spec)
        if isinstance(value, float) and text.startswith("-") and not text.strip("-0.%"):  # rounded to nothing
            text = text[1:]
        if format_spec.endswith("%"):
            text = f"{text[:-1]} %"
        return text.replace(".", ",") if self._comma and isinstance(value, float) else text


@cache
def string_table(name: str) -> Mapping[str, Mapping[str, str]]:
    """A table of strings: key to language to text. name: findings, errors, page or paper."""
    file = resources.files("funduscope").joinpath("i18n", "strings", f"{name}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


@cache
def _texts() -> Mapping[str, Mapping[str, str]]:
    """The texts that have a key of their own rather than a code."""
    return {**string_table("page"), **string_table("paper")}
