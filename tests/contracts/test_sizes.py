"""What keeps the package readable: names that say something, docstrings, nothing passed through unnamed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "funduscope"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [path.relative_to(SOURCE).as_posix() for path in FILES]
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "base", "manager", "engine", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture(params=FILES, ids=NAMES)
def path(request: pytest.FixtureRequest) -> Path:
    """Each file of the package."""
    return request.param


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Function):
            yield node


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 30


def test_a_file_has_a_telling_name(path: Path) -> None:
    assert path.stem not in FORBIDDEN
    assert len(path.relative_to(SOURCE).parts) <= 3, "two folder levels at most"


def test_nothing_is_passed_through_unnamed(path: Path) -> None:
    for node in _functions(path):
        assert node.args.kwarg is None, f"{node.name} takes **{node.args.kwarg.arg if node.args.kwarg else ''}"


def test_nothing_is_left_for_later(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text("utf-8"))


def test_a_file_says_what_it_is_for(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not text.strip() or path.name == "version.py" or ast.get_docstring(ast.parse(text))


def test_what_is_public_says_what_it_is_for(path: Path) -> None:
    """Classes, and functions that another module may call and that do more than their name says in a few lines."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        few = isinstance(node, Function) and (node.end_lineno or 0) - node.lineno < 8
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_") and not few:
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_no_pickle_is_read_anywhere(path: Path) -> None:
    """No module that unpickles, no call that would, no shell and no evaluated text."""
    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not forbidden & {item.name.split(".")[0] for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in forbidden
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "torch.load", "os.system", "pandas.read_pickle"}, called
            if called in {"np.load", "numpy.load"}:
                assert any(key.arg == "allow_pickle" and ast.unparse(key.value) == "False" for key in node.keywords)
