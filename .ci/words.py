"""Prints where comments, docstrings and Markdown have words that are not used here; `OLD` says what replaces them.

The tables of texts that users see, and names, are not read.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLD = {
    r"told": "reported, given, distinguished",
    r"beside": "next to, with, in addition to",
    r"looks(?! (?:like|darker))": "views, images; searches, examines",
    r"twins?": "duplicate",
    r"held(?![- ]out)": "kept, contained",
    r"(?<=[,;:] )else": "otherwise",
}
PATTERN = re.compile("|".join(rf"\b(?:{word})\b" for word in OLD), re.IGNORECASE)
QUOTED = re.compile(r"```.*?```|`[^`\n]*`|\"[^\"\n]*\"|\]\([^)]*\)", re.DOTALL)
"""Code, quoted words and addresses of links are not prose."""


def _prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):  # docstrings, those behind an attribute or a constant too
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def _prose_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    blank = QUOTED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    yield from enumerate(blank.splitlines(), 1)


def found_in(path: Path) -> list[str]:
    """Each old word of a file, as `path:line: word, in its line`."""
    text = path.read_text("utf-8")
    parts = _prose_of_python(text) if path.suffix == ".py" else _prose_of_markdown(text)
    hits = []
    for first, prose in parts:
        plain = QUOTED.sub("", prose) if path.suffix == ".py" else prose
        for number, line in enumerate(plain.splitlines(), first):
            place = f"{path.relative_to(ROOT)}:{number}"
            hits += [f"{place}: {word}, in: {line.strip()[:120]}" for word in PATTERN.findall(line)]
    return hits


def files() -> list[Path]:
    """The files with prose: Python files, and documents."""
    tops = ("src/**/*.py", "tests/**/*.py", "research/**/*.py", "benchmarks/**/*.py", "docs/**/*.md", "*.md")
    return sorted(path for pattern in tops for path in ROOT.glob(pattern))


if __name__ == "__main__":
    lines = [line for path in files() for line in found_in(path)]
    sys.exit("\n".join(lines) or None)
