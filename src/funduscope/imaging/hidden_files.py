"""Files and folders that are not a person's own: hidden ones, and those that a system adds to a folder by itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SYSTEM_NAMES: Final = frozenset(
    {
        # Synology, QNAP, NetApp: thumbnails, deleted files, earlier versions
        "@eadir",
        "#recycle",
        "@recycle",
        "#snapshot",
        "@recently-snapshot",
        ".snapshot",
        "~snapshot",
        # Windows
        "$recycle.bin",
        "system volume information",
        "thumbs.db",
        # macOS, Linux
        "__macosx",
        "lost+found",
    }
)
"""In lower case: what systems add. Some hold copies of photos, as thumbnails, or photos that a person deleted."""


def is_hidden(*names: str) -> bool:
    """Whether a path with these parts is to be passed over.

    True for names that begin with a dot, for those of `SYSTEM_NAMES`, and for the file by which Excel locks a workbook.
    """
    return any(name.startswith((".", "~$")) or name.lower() in SYSTEM_NAMES for name in names)


def describe_system_files(sources: Iterable[Path]) -> str:
    """Return one sentence about the entries of `SYSTEM_NAMES` below these folders; empty where there are none.

    Ordinary hidden files are not counted: nobody expects them to be read.
    """
    entries: list[Path] = []
    visited: set[str] = set()
    for source in sources:
        for folder, folders, files in os.walk(source, followlinks=True):
            if (place := os.path.realpath(folder)) in visited:  # a link led to it before
                folders.clear()
                continue
            visited.add(place)

            names = sorted((*folders, *files))
            entries += [Path(folder, name) for name in names if name.lower() in SYSTEM_NAMES]
            folders[:] = [name for name in folders if not is_hidden(name)]

    if not entries:
        return ""
    count = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
    return (
        f"passed over {count} of NAS systems, Windows or macOS, such as {entries[0]}: "
        "name such a folder itself if its photos are to be read"
    )
