"""The checkpoint that an interrupted training goes on from, and the one before it, should that be damaged."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from funduscope import checkpoint

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"


def keep_previous(folder: Path) -> None:
    """Keeps what there is as the one before, since it is to be replaced; at no cost where the disk knows links."""
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.is_file():
        return
    previous.unlink(missing_ok=True)
    try:
        os.link(last, previous)
    except OSError:
        shutil.copyfile(last, previous)


def newest(folder: Path, groups: tuple[str, ...] = ("weights",)) -> checkpoint.Checkpoint | None:
    """The newest checkpoint of the folder that can be read; None where there is none yet.

    Where that is not the last one, says so. Raises `checkpoint.CheckpointError` where none can be read.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.is_file():
        return None
    try:
        return checkpoint.load(last, groups)
    except checkpoint.CheckpointError as error:
        if not previous.is_file():
            raise
        held = checkpoint.load(previous, groups)
        print(
            f"warning: {error.says} The training goes on from the checkpoint before it, after epoch "
            f"{held.progress['epoch']}.",
            file=sys.stderr,
        )
        return held
