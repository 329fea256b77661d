"""The files in which a newcomer meets the cases, from `train_network` to the saved run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType

import pytest
from tests import less_work

from funduscope import training
from funduscope.data.case import Case, Labels
from funduscope.data.prepare import CACHE_VARIABLE, Prepared
from funduscope.data.sources import read_data
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import write_idrid
from funduscope.training.augment import Warp
from funduscope.training.batch import Batch, Item
from funduscope.training.initialization import START
from funduscope.training.train_network import train_network
from funduscope.training.validation import make_validation

ROOM = Path(training.__file__).parent
WALK = {
    "train_network", "initialization", "leakage", "samples", "batch", "augment",
    "loop", "losses", "sample_scores", "validation", "validation_loss", "journal", "calibrate",
}  # fmt: skip
"""Thirteen, of eighteen before. Optimizer, balance of the losses and exchange between processes see no case."""

HANDLED = (Case, Labels, Prepared, Item, Batch, Warp)
"""What a case is on its way through training."""

TINY = (
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "decoder.skip_channels=[8, 8, 8, 8, 16]",
    "decoder.channels=[16, 16, 8, 8]",
    "views.whole_px=64",
    "views.close_px=128",
    "sampling.whole={idrid-B = 1, idrid-A = 0.5}",
    "sampling.close={idrid-A = 1}",
    "training.epochs=1",
    "training.batch=2",
    "training.workers=0",
    "training.precision=float32",
)


def _is_case(argument: object) -> bool:
    """Whether an argument is a case, what was made of one, or a list of such."""
    first = argument[0] if isinstance(argument, list | tuple) and argument else argument
    return isinstance(first, HANDLED)


@pytest.mark.slow
def test_a_set_of_cases_passes_through_few_files_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    less_work.draw_less(monkeypatch.setattr)
    write_idrid(tmp_path / "idrid", graded=10, masked=5, width_px=400)
    cases, recipe = read_data([tmp_path / "idrid"]), Recipe.load("plain", list(TINY))
    called: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if Path(frame.f_code.co_filename).parent == ROOM and any(map(_is_case, frame.f_locals.values())):
            called.add(frame.f_code)

    sys.settrace(note)  # unlike a profile it is not called for every function of C
    try:
        train_network(recipe, cases, tmp_path / "run", 0, START, make_validation)
    finally:
        sys.settrace(None)
    files = {Path(code.co_filename) for code in called if code.co_name != "<module>"}
    assert {file.stem for file in files if file.parent == ROOM} == WALK
