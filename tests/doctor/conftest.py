"""Drawn data sets to plant faults in, and quick scans of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from funduscope.doctor.finding import Finding
from funduscope.doctor.inventory import take_inventory
from funduscope.doctor.record import scan_photo
from funduscope.doctor.scan import Scan
from funduscope.duplicates.cache import state_of
from funduscope.testing.drawn_eyes import write_idrid


@pytest.fixture(scope="session")
def clean_idrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IDRiD's layout with eight graded and four masked eyes; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("clean") / "idrid"
    write_idrid(folder, graded=8, masked=4, width_px=448)
    return folder


@pytest.fixture
def idrid(clean_idrid: Path, tmp_path: Path) -> Path:
    """A copy of the clean set that a test may change."""
    return Path(shutil.copytree(clean_idrid, tmp_path / "idrid"))


@pytest.fixture(scope="session")
def clean_scan(clean_idrid: Path) -> Path:
    """The cache of a scan of the clean set."""
    return _scanned(Scan(take_inventory(clean_idrid), clean_idrid.parent / "scan")).cache.folder


@pytest.fixture
def scan_of(clean_scan: Path, tmp_path: Path) -> Callable[[Path], Scan]:
    """Scans a folder or table; photos that are as in the clean set are not scanned again."""

    def scan(data: Path) -> Scan:
        cache = shutil.copytree(clean_scan, tmp_path / "scan", dirs_exist_ok=True)
        return _scanned(Scan(take_inventory(data), Path(cache)))

    return scan


def _scanned(scan: Scan) -> Scan:
    for path, name in scan.unscanned():
        scan.keep(scan_photo(path, name), state_of(path))
    return scan


@pytest.fixture
def kinds() -> Callable[[Iterable[Finding]], list[str]]:
    """The sorted kinds of findings; fails for evidence that is no JSON and for absolute files."""

    def of(findings: Iterable[Finding]) -> list[str]:
        import json

        every = list(findings)
        for one in every:
            json.dumps(one.to_dict())
            assert one.files
            assert not any(Path(name).is_absolute() for name in one.files)
        return sorted(one.kind for one in every)

    return of
