"""What all tests share: where the real photographs are, one process's threads and cache, and what is quick."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from jaxtyping import install_import_hook
from tests import less_work

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and numpy are imported: each process has a core to itself
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

# Shapes and types of the tensors that training and network exchange are checked in tests alone, since it costs time.
CHECKED = ("funduscope.network.network", "funduscope.training.batch", "funduscope.training.losses")
install_import_hook(CHECKED, "beartype.beartype")

OWN_MAIN = sys.modules["__main__"]
TESTS = Path(__file__).resolve().parent

QUICK = (
    "contracts",
    "data",
    "metrics/test_grading.py",
    "metrics/test_landmark_distance.py",
    "metrics/test_per_photo.py",
    "test_recipe.py",
    "test_vocabulary.py",
)
"""Folders and files whose tests, except those marked slow, are `quick`: together within a minute on one core."""

TRAININGS = ("cli", "compare", "face", "recipes", "training")
"""Folders whose tests train and score. A training ends with its scores: 1000 draws of the bootstrap, ten times its own
time."""

PICTURES = ("test_whole_way.py", "test_taught.py")
"""The files among them whose tests look at the pictures that a training draws: each takes a tiny one's own time."""

EXPORTS = ("export", "face", "recipes", "training")
"""Folders whose tests export."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the quick tests."""
    quick = tuple(TESTS / name for name in QUICK)
    for item in items:
        if item.get_closest_marker("slow") is None and any(item.path.is_relative_to(path) for path in quick):
            item.add_marker("quick")


@pytest.fixture(autouse=True, scope="session")
def _own_cache() -> Iterator[None]:
    """Prepared photos go to a folder of this process, never to the user's cache."""
    with tempfile.TemporaryDirectory(prefix="funduscope-cache-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUNDUSCOPE_CACHE", folder)
        yield


@pytest.fixture(autouse=True, scope="module")
def _less_work(request: pytest.FixtureRequest) -> Iterator[None]:
    """What takes long and is not what the tests of a folder are about.

    In `TRAININGS` intervals rest on at most 20 draws: no test there is about their width. Pictures of samples, scores
    and curves are drawn in tests/evaluation, in `PICTURES` and where a test needs them, and not by every training. In
    `EXPORTS` few photos calibrate and check the INT8 file of a tiny network.
    """
    folder = request.path.relative_to(TESTS).parts[0]
    with pytest.MonkeyPatch.context() as patch:
        if folder in TRAININGS:
            less_work.draw_less(patch.setattr)
        if folder in TRAININGS and request.path.name not in PICTURES:
            less_work.draw_no_pictures(patch.setattr)
            less_work.draw_no_scores(patch.setattr)
        if folder in EXPORTS:
            less_work.export_less(patch.setattr)
        yield


@pytest.fixture(autouse=True, scope="session")
def _own_core() -> Iterator[None]:
    """ONNX Runtime's and OpenCV's threads wait for work in a loop, which costs the other process its core."""
    from funduscope.inference import runtime

    own = runtime.session_options

    def alone() -> Any:
        options = own()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            patch.setattr(runtime, "session_options", alone)
            cv2.setNumThreads(1)
        yield


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """Streamlit's AppTest, in a fixture of any scope too, leaves its script behind as `__main__`; the processes that a
    later test starts would run it."""
    sys.modules["__main__"] = OWN_MAIN
    yield
    sys.modules["__main__"] = OWN_MAIN


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs that FUNDUSCOPE_DATA names; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FUNDUSCOPE_DATA", TESTS.parents[1] / "shared" / "data"))
    if not (folder / "folds.csv").is_file():
        pytest.skip("the real photographs are not here (set FUNDUSCOPE_DATA to their folder)")
    return folder


@pytest.fixture
def takes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is refused for what it shows: eyes that are painted for a runtime to see are no fundus photographs."""
    from funduscope.quality.fundus import FundusTest

    monkeypatch.setattr(FundusTest, "classify", lambda self, measures: "eye")
