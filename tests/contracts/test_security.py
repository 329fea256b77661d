"""What SECURITY.md and docs/faults.md promise: the named tests exist, dependencies are new enough, and the code does
without pickle, shell and network."""

from __future__ import annotations

import ast
import re
import socket
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "funduscope").rglob("*.py"))
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
PAGES = (ROOT / "SECURITY.md", ROOT / "docs" / "faults.md")

FLOORS = {
    "jinja2": ("3.1.6", "GHSA-cpwx-vrp4-4pq7"),
    "onnx": ("1.21", "CVE-2026-27489, CVE-2026-34445"),
    "opencv-python-headless": ("4.12", "CVE-2025-53644"),
    "pillow": ("12.2", "CVE-2026-42308"),
    "pyarrow": ("14.0.1", "CVE-2023-47248"),
    "pydicom": ("3.0.2", "CVE-2026-32711"),
    "python-multipart": ("0.0.31", "GHSA-v9pg-7xvm-68hf"),
    "ray": ("2.54", "CVE-2026-27482"),
    "starlette": ("1.3.1", "CVE-2026-54283"),
    "streamlit": ("1.54", "GHSA-7p48-42j8-8846"),
    "torch": ("2.10", "GHSA-63cw-57p8-fm3p"),
}
"""The first version without the named advisory."""

NEVER = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "requests", "httpx", "aiohttp", "http.client"}
ALLOWED = {
    "socket": {
        "app/server.py",
        "batch/ray_readers.py",
        "serve/service.py",
    },  # listening, whether a named cluster answers
    "ray": {"batch/ray_readers.py"},
    "urllib.request": {"network/encoder.py"},  # the ImageNet weights of a training, where none are here
    "subprocess": {"evaluation/cost.py"},  # a process of its own to measure memory
}


@cache
def _tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_test_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text("utf-8"))
    assert len(named) > 20
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / "tests" / file).is_file() or test not in _tests_of(ROOT / "tests" / file)
    ]
    assert not missing


def test_every_fault_has_a_line_with_a_test() -> None:
    lines = [line for line in PAGES[1].read_text("utf-8").splitlines() if re.match(r"\| \d+ ", line)]
    assert [int(line.split("|")[1]) for line in lines] == list(range(1, 60))
    assert not [line for line in lines if not NAMED.search(line)]


def test_every_threat_has_a_line_with_a_test() -> None:
    """Spoofing, tampering, repudiation, disclosure, denial, raised rights: each of some input, with its test."""
    rows: list[str] = []
    for title in ("What is never done", "What could be tried"):
        part = PAGES[0].read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        rows += [line for line in part.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 35
    assert not [row for row in rows if not NAMED.search(row)]
    letters = [re.findall(r"[STRIDE]", row.split("|")[2].partition(":")[0]) for row in rows]
    assert {one for found in letters for one in found} == set("STRIDE")
    named = {row.split("|")[1].strip() for row in rows}
    assert named >= {"photo", "DICOM file", "table of labels", "table of a batch", "recipe", "checkpoint", "ONNX file"}
    assert named >= {"archive of photos or corrections", "corrections by hand", "request"}


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("name", FLOORS)
def test_no_dependency_may_be_older_than_its_last_advisory(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    groups += project["dependency-groups"].values()
    bounds = [one for group in groups for one in group if re.split(r"[>=\[ ]", one)[0] == name]
    assert bounds
    least, advisory = FLOORS[name]
    for bound in bounds:
        assert _version(bound.partition(">=")[2]) >= _version(least), f"{bound}: {advisory}"
    assert f"| {name} | {least} | {advisory}: " in (ROOT / "SECURITY.md").read_text("utf-8")


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _calls(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """The calls by their dotted name, each with the keywords that are true."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), {one.arg or "" for one in node.keywords if ast.unparse(one.value) == "True"}


@pytest.mark.parametrize("path", SOURCES, ids=[path.relative_to(SOURCES[0].parent).as_posix() for path in SOURCES])
def test_no_pickle_no_shell_no_network(path: Path) -> None:
    tree, name = ast.parse(path.read_text("utf-8")), path.relative_to(ROOT / "src" / "funduscope").as_posix()
    modules = set(_imports(tree))
    assert not modules & NEVER
    assert not [module for module, files in ALLOWED.items() if module in modules and name not in files]
    wrong = {"eval", "exec", "os.system", "os.popen", "torch.load", "pickle.load", "pickle.loads"}
    for call, true in _calls(tree):
        assert call not in wrong, call
        assert not true & {"shell", "allow_pickle", "trust_remote_code"}, call


def test_an_answer_opens_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command line, Python, the page's reading function and that of the service's worker."""
    from tests.cli import equal_bytes
    from tests.fuzz import fuzz_seeds

    from funduscope.inference.loading import load

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model, photo = tmp_path / "model.onnx", tmp_path / "eye.jpg"
    model.write_bytes(fuzz_seeds.model_with(fuzz_seeds.cards()[0]))
    photo.write_bytes(fuzz_seeds.photos()[0])
    found = dict(equal_bytes.answers(photo, model, {1: load(model, threads=1)}, tmp_path / "out"))
    assert {entry.partition(",")[0] for entry in found} >= {"Python", "service", "command line", "page"}
    assert len(set(found.values())) == 1
