from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funduscope.imaging.photo_names import safe_stem

NASTY = (
    "../../etc/passwd", "..\\..\\boot.ini", "a\0b.jpg", "x" * 300 + ".jpg", "目" * 300, "👁️.jpg", "a\nb.png",
    ";rm -rf ~", "-rf", "--help.jpg", "=cmd()", "CON", "con.jpg", "Nul.tar.tif", "COM1", "lpt9.png", "COM¹", "", ".",
    "..", "...", ".hidden", "a.", "a ", "/", "\\", "C:\\x", "\udcff\udc80", "\u202egpj.exe", "%2e%2e", "$(id)", "`id`",
    "a|b", "*?<>",
)  # fmt: skip


def assert_safe(stem: str) -> None:
    assert stem
    assert len(stem) <= 80
    assert len(stem.encode("utf-8")) <= 200
    assert stem[0] not in ".-"
    assert stem[-1] != "."
    assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", stem, re.IGNORECASE)
    for char in stem:
        assert char in "._-()" or unicodedata.category(char)[0] in "LM" or unicodedata.category(char) == "Nd", char


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names_become_safe_ones(name, tmp_path):
    stem = safe_stem(name, set(), name)
    assert_safe(stem)
    (tmp_path / stem).mkdir()
    assert [entry.name for entry in tmp_path.iterdir()] == [stem]


@given(st.text(), st.text())
def test_any_name_becomes_a_safe_one_and_no_two_the_same(name, path):
    taken: set[str] = set()
    stems = [safe_stem(name, taken, path) for _ in range(3)]
    for stem in stems:
        assert_safe(stem)
    assert len({stem.casefold() for stem in stems}) == 3


@given(st.lists(st.text(max_size=6), max_size=12))
def test_many_names_stay_apart_where_case_is_not_told_apart(names):
    taken: set[str] = set()
    stems = [safe_stem(name, taken, f"/photos/{name}") for name in names]
    assert len({stem.casefold() for stem in stems}) == len(names)


def test_good_names_stay_as_they_are():
    names = {"IDRiD_01.jpg": "IDRiD_01", "45522_(2357).dcm.jpg": "45522_(2357).dcm", "Œil-gauche.PNG": "Œil-gauche"}
    for name, stem in names.items():
        assert safe_stem(name, set(), name) == stem


def test_an_equal_stem_gets_a_hash_of_its_path_that_stays_the_same():
    def stems():
        taken: set[str] = set()
        return [safe_stem("eye.jpg", taken, path) for path in ("a/eye.jpg", "b/eye.jpg", "c/EYE.jpg")]

    first, second, third = stems()
    assert first == "eye"
    assert re.fullmatch(r"eye-[0-9a-f]{8}", second)
    assert second != third
    assert stems() == [first, second, third]
