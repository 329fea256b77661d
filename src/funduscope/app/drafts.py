"""Drafts of corrections on this machine's disk: what was not saved survives a reload, a crash and a restart.

One file for each corrected photo, named by the SHA-256 of the photo's file as it was first uploaded, in a folder that
only its owner can open, if the disk has such rights. It holds the corrections alone: neither the photo nor its name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from funduscope.app.export_labels import corrections_to_json
from funduscope.app.import_labels import corrections_from_json
from funduscope.app.reviewed import Corrections, merged
from funduscope.app.session import Session
from funduscope.atomic import set_mode, write_atomically

VARIABLE: Final = "FUNDUSCOPE_DRAFTS"
SCHEMA: Final = "funduscope-draft/1"
_NAME: Final = re.compile(r"[0-9a-f]{64}")


def drafts_folder() -> Path:
    """The folder of the drafts: FUNDUSCOPE_DRAFTS, otherwise in the user's folder for a program's state."""
    named = os.environ.get(VARIABLE)
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return Path(named).expanduser() if named else base / "funduscope" / "drafts"


def keep_drafts(session: Session) -> None:
    """Writes the corrections that changed since they were written last; removes the drafts of those that were undone,
    unless another session has written them since. Corrections and what another session has written since become one,
    in this session too.

    Raises `OSError` if the disk refuses.
    """
    for key, history in session.histories.items():
        drafted = session.drafted.get(key, Corrections())
        if key not in session.entries or (history.now, history.now.graders) == (drafted, drafted.graders):
            continue
        name, size = draft_name(session, key), session.size(key)
        there = _read(name, size)
        is_of_others = there is not None and _in_file(there) != _in_file(drafted)
        if not history.now.is_empty:
            if there is not None and is_of_others:
                history.step(merged(drafted, history.now, there))
            _write(name, size, history.now)
        elif not is_of_others:
            delete_drafts([name])
        session.drafted[key] = history.now


def draft_name(session: Session, key: str) -> str:
    """The name of a photo's draft: of one restored from saved corrections that of the file it was uploaded as."""
    original = session.entries[key].original
    return original if _NAME.fullmatch(original) else key


def continue_draft(session: Session, key: str) -> None:
    """Restores a photo's draft, where it has one and has no corrections in this session."""
    history = session.history(key)
    draft = _read(draft_name(session, key), session.size(key)) if history.now.is_empty and not history.before else None
    if draft is not None:
        history.continue_draft(draft)
        session.drafted[key] = draft


def delete_drafts(keys: Iterable[str]) -> None:
    """Removes the drafts of these names. Raises the first `OSError` of a disk that refuses, after the others."""
    refused: list[OSError] = []
    for key in keys:
        try:
            _path(key).unlink(missing_ok=True)
        except OSError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def drafts() -> list[str]:
    """The names of all drafts."""
    with suppress(OSError):
        return sorted(path.stem for path in drafts_folder().glob("*.json") if _NAME.fullmatch(path.stem))
    return []


def _path(key: str) -> Path:
    if not _NAME.fullmatch(key):
        raise ValueError("a draft is named by a SHA-256")
    return drafts_folder() / f"{key}.json"


def _write(key: str, size: tuple[int, int], corrections: Corrections) -> None:
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    set_mode(path.parent, 0o700)
    draft = {"schema": SCHEMA, "width": size[0], "height": size[1]} | _in_file(corrections)
    write_atomically(path, json.dumps(draft).encode())


def _in_file(corrections: Corrections) -> dict[str, Any]:
    return corrections_to_json(corrections, corrections.masks)


def _read(key: str, size: tuple[int, int]) -> Corrections | None:
    """The draft of a photo of this size; None without one, and where it cannot be read."""
    with suppress(Exception):  # the file can be wrong in any way
        draft = json.loads(_path(key).read_bytes())
        if draft["schema"] == SCHEMA and (draft["width"], draft["height"]) == size:
            corrections = corrections_from_json(draft, size)
            return None if corrections.is_empty else corrections
    return None
