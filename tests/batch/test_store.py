"""What a batch has read, and what it reads again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from funduscope.batch.photo_list import ListedPhoto
from funduscope.batch.store import Result, Store

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
