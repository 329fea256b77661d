"""The same photo gives the same findings.json by every entry and number of threads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli import equal_bytes
from tests.cli.conftest import write_model


def test_every_entry_gives_the_same_bytes(tmp_path: Path, takes_anything: None) -> None:
    model = write_model(tmp_path / "tiny.onnx")
    loaded = equal_bytes.load_models(model)
    for path in equal_bytes.draw(tmp_path, 2):
        groups = equal_bytes.differences(path, model, loaded)
        assert len(groups) == 1, groups
        assert len(groups[0]) == 13


@pytest.mark.slow
def test_every_entry_gives_the_same_bytes_by_the_shipped_model() -> None:
    """By a batch, too. One photo here; `python -m tests.cli.equal_bytes --drawn 50` reads fifty."""
    assert equal_bytes.main(["--drawn", "1"]) == 0
