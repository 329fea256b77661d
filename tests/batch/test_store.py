"""What a batch has read, and what it reads again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from funduscope.batch.photo_list import ListedPhoto
from funduscope.batch.results import Result
from funduscope.batch.store import Store
from funduscope.i18n.errors import CodedError

PROBLEM = "E_FORMAT", "the entry's name leads out of the archive: it is not opened"


def test_what_failed_is_read_again_where_asked_but_never_what_must_not_be_opened(tmp_path: Path) -> None:
    photos = [ListedPhoto("good.jpg", "1"), ListedPhoto("cut.jpg", "1"), ListedPhoto("evil.jpg", "1", problem=PROBLEM)]
    with closing(Store(tmp_path, {})) as store:
        assert store.update(photos) == 2
        store.put("good.jpg", [Result("good.jpg", "read")])
        store.put("cut.jpg", [Result("cut.jpg", "failed", "E_TRUNCATED", "cut")])
        assert store.update(photos) == 0
        assert store.update(photos, retry_failed=True) == 1
        assert [place for place, _ in store.waiting()] == ["cut.jpg"]
        assert [(one.place, one.code) for one in store.results()] == [("good.jpg", None), ("evil.jpg", "E_FORMAT")]


def test_what_is_listed_without_its_problem_may_be_read_again(tmp_path: Path) -> None:
    with closing(Store(tmp_path, {})) as store:
        store.update([ListedPhoto("eye.jpg", "1", problem=PROBLEM)])
        assert store.update([ListedPhoto("eye.jpg", "1")], retry_failed=True) == 1


def test_what_was_not_there_is_read_as_soon_as_it_is(tmp_path: Path) -> None:
    """A share that was away for an hour, or a file without permissions: the same command continues."""
    with closing(Store(tmp_path, {})) as store:
        store.update([ListedPhoto("eye.jpg", "1"), ListedPhoto("gone.jpg", "")])
        for place in ("eye.jpg", "gone.jpg"):
            store.put(place, [Result(place, "failed", "E_NOT_FOUND", "no such file")])
        assert store.update([ListedPhoto("eye.jpg", "1"), ListedPhoto("gone.jpg", "")]) == 1
        assert [place for place, _ in store.waiting()] == ["eye.jpg"]


def test_an_empty_list_takes_nothing_away(tmp_path: Path) -> None:
    with closing(Store(tmp_path, {})) as store:
        store.update([ListedPhoto("eye.jpg", "1")])
        store.put("eye.jpg", [Result("eye.jpg", "read")])
        store.flush()
        with pytest.raises(CodedError, match="is their disk there") as caught:
            store.update([])
        assert caught.value.code == "E_NOT_FOUND"
        assert [one.place for one in store.results()] == ["eye.jpg"]


def test_the_next_months_photos_do_not_replace_those_of_a_number_that_both_have(tmp_path: Path) -> None:
    """Cameras number anew."""
    with closing(Store(tmp_path, {})) as store:
        store.update([ListedPhoto("IMG_1.jpg", "1"), ListedPhoto("IMG_2.jpg", "1")])
        for place in ("IMG_1.jpg", "IMG_2.jpg"):
            store.put(place, [Result(place, "read")])
        store.flush()
        with pytest.raises(CodedError, match="name another folder"):
            store.update([ListedPhoto("IMG_2.jpg", "2"), ListedPhoto("IMG_3.jpg", "2")])
        assert [one.place for one in store.results()] == ["IMG_1.jpg", "IMG_2.jpg"]
        assert store.update([ListedPhoto("IMG_1.jpg", "1"), ListedPhoto("IMG_3.jpg", "1")]) == 1


def test_a_table_whose_photos_are_away_takes_no_result_away(tmp_path: Path) -> None:
    """It names them all the same. What had failed before is no sign that the disk is there."""
    never = ListedPhoto("never.jpg", "")
    with closing(Store(tmp_path, {})) as store:
        store.update([ListedPhoto("1.jpg", "9 1"), ListedPhoto("2.jpg", "8 1"), never])
        for place in ("1.jpg", "2.jpg"):
            store.put(place, [Result(place, "read")])
        store.flush()
        with pytest.raises(CodedError, match="is their disk there") as caught:
            store.update([ListedPhoto("1.jpg", ""), ListedPhoto("2.jpg", ""), never])
        assert caught.value.code == "E_NOT_FOUND"
        with pytest.raises(CodedError, match="each of these names has another file"):
            store.update([ListedPhoto("1.jpg", "7 2"), ListedPhoto("2.jpg", "6 2"), ListedPhoto("3.jpg", "5 2"), never])
        assert [one.place for one in store.results()] == ["1.jpg", "2.jpg"]
        assert store.update([ListedPhoto("1.jpg", "9 2"), ListedPhoto("2.jpg", "8 2")]) == 2, "copied without dates"


def test_one_photo_may_be_replaced(tmp_path: Path) -> None:
    with closing(Store(tmp_path, {})) as store:
        store.update([ListedPhoto("eye.jpg", "9 1")])
        assert store.update([ListedPhoto("eye.jpg", "7 2")]) == 1


def test_a_refused_list_changes_nothing_however_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked a second time it would otherwise be taken for a batch that continues, and the earlier results removed."""
    other = [ListedPhoto("new.jpg", "1"), ListedPhoto("inner.zip", "1", problem=PROBLEM)]
    with closing(Store(tmp_path, {})) as store:
        store.update([ListedPhoto("eye.jpg", "1")])
        store.put("eye.jpg", [Result("eye.jpg", "read")])
        store.flush()
    monkeypatch.setattr("funduscope.batch.store.SHARD_S", -1.0)  # as if each photo took more than a second to list
    for _ in range(2):
        with closing(Store(tmp_path, {})) as store, pytest.raises(CodedError, match="name another folder"):
            store.update(other)
    with closing(Store(tmp_path, {})) as store:
        assert store.update([ListedPhoto("eye.jpg", "1")]) == 0
        assert [one.place for one in store.results()] == ["eye.jpg"]


def test_a_list_that_is_refused_leaves_no_file(tmp_path: Path) -> None:
    def refused() -> Iterator[ListedPhoto]:
        yield ListedPhoto("eye.jpg", "1")
        raise CodedError("E_LABELS", "row 3: the path is empty")

    with pytest.raises(CodedError, match="row 3"), closing(Store(tmp_path, {})) as store:
        store.update(refused())
    assert not list(tmp_path.iterdir())
