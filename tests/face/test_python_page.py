"""Every example of docs/python.md runs as it stands, in the order of the page, and leaves what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"^##? (.+?)$.*?^```python\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL))

Names = dict[str, Any]
LEAVES: dict[str, Callable[[Names], bool]] = {
    "In Python": lambda names: names["findings"].grade in range(5),
    "The features of a folder, as a table": lambda names: len(names["table"]) == 3 and Path("features.csv").is_file(),
    "Lesion maps in a notebook": lambda names: 0 <= names["covered"] <= 1.3 and len(plt.get_fignums()) == 2,
    "A custom measure": lambda names: names["findings"].fovea_xy is not None,
    "Reports of the photos to refer": lambda names: all((one / "report.html").is_file() for one in names["written"]),
    "Referral at a custom threshold": lambda names: (
        names["model"].card.referable_threshold < max(names["chances"]) and len(names["referable"]) > 1
    ),
    "What is wrong with the data": lambda names: (
        names["report"].photos == 12 and Path("examined/doctor.html").is_file()
    ),
    "A custom score": lambda names: 0 <= names["scores"].value("table", "soft Dice", "mean") <= 1,
    "Photos in a custom layout": lambda names: 0 <= names["scores"].value("clinic", "EX pixels", "AUPR") <= 1,
    # An epoch of each of two stages.
    "Fine-tune on twelve photos": lambda names: len(names["run"].journal) == 2 and names["findings"].grade in range(5),
    "Every photo scored, none by a model that learned from it": lambda names: (
        len(names["scores"].photos) == 12 and names["page"].is_file()
    ),
    "An ensemble": lambda names: "runs/mine/model.onnx" in {path.as_posix() for path in names["files"]},
    "A custom training loop": lambda names: bool(np.isfinite([float(loss.detach()) for loss in names["losses"]]).all()),
}


def test_the_page_has_twelve_examples_of_a_few_lines() -> None:
    assert list(EXAMPLES) == list(LEAVES)
    assert len(EXAMPLES) == 13, "twelve, and the first lines"
    assert max(len(code.splitlines()) for code in EXAMPLES.values()) <= 18


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "title",
    [pytest.param(title, marks=pytest.mark.slow if "range(5)" in EXAMPLES[title] else ()) for title in EXAMPLES],
)
def test_an_example_runs(title: str) -> None:
    names: Names = {}
    exec(compile(EXAMPLES[title], f"docs/python.md: {title}", "exec"), names)
    assert LEAVES[title](names)
    plt.close("all")
