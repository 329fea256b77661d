"""What tests share: where the real data lies, if it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

OWN_MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """Streamlit's AppTest, in a fixture of any scope too, leaves its script behind as `__main__`; the processes that a
    later test starts would run it."""
    sys.modules["__main__"] = OWN_MAIN
    yield
    sys.modules["__main__"] = OWN_MAIN


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs beside the checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FUNDUSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "folds.csv").is_file():
        pytest.skip("the real photographs are not here (set FUNDUSCOPE_DATA to their folder)")
    return folder


@pytest.fixture
def takes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is refused for what it shows: eyes that are painted for a runtime to see are no fundus photographs."""
    from funduscope.quality.fundus import FundusTest

    monkeypatch.setattr(FundusTest, "classify", lambda self, measures: "eye")
