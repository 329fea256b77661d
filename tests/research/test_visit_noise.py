"""What counts as a change between two visits is counted by the rule that the page uses."""

from __future__ import annotations

import pytest
from research.visit_noise import Pair, print_rules

from funduscope.app import visit_comparison
from funduscope.inference import objects
from funduscope.vocabulary import LESIONS


def test_a_lesion_too_small_for_a_change_is_outlined_and_not_called_new(capsys: pytest.CaptureFixture[str]) -> None:
    small, large = objects.MIN_PPM["HE"] + 1, visit_comparison.MIN_PPM["HE"] + 1
    assert small < visit_comparison.MIN_PPM["HE"]
    changes = {code: [] for code in LESIONS} | {"HE": [(0.0, small, 0.0, 0.9), (0.0, large, 0.0, 0.9)]}
    filled = dict.fromkeys(LESIONS, 0) | {"HE": 2}
    print_rules([Pair("filled in", "a photo", changes, filled)], dict.fromkeys(LESIONS, 0.5))
    assert "| HE | 2 | 2 | 1 |" in capsys.readouterr().out
