"""The contact sheet of augmentations is asked for as the other scripts are."""

from __future__ import annotations

import sys

import pytest
from research.augmentations import main


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), ([], 2)])
def test_without_a_file_it_says_how_it_is_used(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["augmentations", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    said = capsys.readouterr()
    assert "usage: augmentations [-h] sheet" in said.out + said.err
