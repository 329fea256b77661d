"""A search for duplicates among descriptors that no file stores yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from funduscope.duplicates.cache import PhotoCache, StoredDescriptors
from funduscope.duplicates.descriptor import Descriptor
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.duplicates.search import compare

Find = Callable[[Mapping[str, Descriptor]], dict[tuple[str, str], DuplicatePair]]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Descriptors by name to their proved pairs by both names."""

    def pairs_of(descriptors: Mapping[str, Descriptor]) -> dict[tuple[str, str], DuplicatePair]:
        cache, digests = PhotoCache(tmp_path / "descriptors"), {}
        for name, descriptor in descriptors.items():
            data = descriptor.to_bytes()
            cache.write(name, (0, 0), {"descriptor": data})
            digests[name] = hashlib.sha256(data).hexdigest()
        found = compare(StoredDescriptors(cache, digests), workers=0)
        return {(pair.first, pair.second): pair for pair in found}

    return pairs_of
