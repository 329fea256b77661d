"""Words of the package's old private language: counted in comments, docstrings and Markdown.

`python tests/contracts/test_words.py` prints how many each folder has; with a folder's name, where. An old word in the
tables of texts that users see, or in a name, is not counted.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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


def folders() -> dict[str, list[Path]]:
    """Files to read by room: the second folder of src/funduscope, the first of tests, and so on."""
    rooms: dict[str, list[Path]] = {}
    for top, pattern in (("src", "*.py"), ("tests", "*.py"), ("research", "*"), ("benchmarks", "*"), ("docs", "*.md")):
        for path in sorted((ROOT / top).rglob(pattern)):
            if path.suffix not in (".py", ".md") or path == Path(__file__).resolve():
                continue
            inner = path.relative_to(ROOT / top).parts[:-1]
            inner = inner[1:] if top == "src" else inner
            rooms.setdefault("/".join((top, *inner[:1])), []).append(path)
    rooms["."] = sorted(path for path in ROOT.glob("*.md"))
    return rooms


@pytest.mark.parametrize("room", sorted(folders()))
def test_a_room_has_no_words_of_the_old_language(room: str) -> None:
    lines = [line for path in folders()[room] for line in found_in(path)]
    assert not lines, "\n".join(lines)


def test_words_are_found_in_prose_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    code, page = tmp_path / "a.py", tmp_path / "a.md"
    code.write_text('"""As told, else not; anything else is fine."""\nheld = "beside"  # `told`, a twin\n', "utf-8")
    page.write_text("It looks `told`, [a](beside.md)\n\n```\nheld\n```\nTold\n", "utf-8")
    assert [line.split(", in")[0].split(": ")[1] for line in found_in(code)] == ["twin", "told", "else"]
    assert [line.split(", in")[0] for line in found_in(page)] == ["a.md:1: looks", "a.md:6: Told"]


if __name__ == "__main__":
    for room, paths in sorted(folders().items()):
        lines = [line for path in paths for line in found_in(path)]
        if sys.argv[1:] == [room]:
            print("\n".join(lines))
        elif lines and len(sys.argv) < 2:
            print(f"{len(lines):5d}  {room}")
