"""Runs verbs on a small disk of its own that is full, then read-only, then has room; prints what came of it as JSON.

Started in a namespace of mounts by test_full_disk.py: `full_disk.py DISK SPECIFICATION`. A specification is a list of
{"name", "arguments", "free_kb", "given", "kept"}: "{disk}" in the arguments is the disk, free_kb the room of each run
on the full one, given a folder that is on it before, kept a folder in it and where that is copied to in the end.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

FILLER = "filler"


def damaged(folder: Path) -> list[str]:
    """Files with a final name that cannot be read, and files that are not finished."""
    from PIL import Image
    from safetensors import safe_open

    wrong = []
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != FILLER):
        try:
            if ".partial" in path.name:
                raise ValueError("not finished")
            if path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, "np"):
                    pass
            elif path.suffix in (".html", ".csv", ".toml", ".onnx") and not path.stat().st_size:
                raise ValueError("empty")
        except Exception as error:
            wrong.append(f"{path.relative_to(folder)}: {error}"[:200])
    return wrong


def run(arguments: list[str], disk: Path) -> dict[str, Any]:
    from funduscope.cli.main import main

    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main([one.replace("{disk}", str(disk)) for one in arguments])
    lines = [line for line in err.getvalue().splitlines() if line.startswith("funduscope: ")]
    return {"code": code, "says": lines, "err": err.getvalue()[-3000:], "damaged": damaged(disk)}


def fill(disk: Path, free_kb: int) -> None:
    """Leaves so much room on the disk."""
    with (disk / FILLER).open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(disk / FILLER, max(0, (disk / FILLER).stat().st_size - free_kb * 1024))


def case(one: dict[str, Any], disk: Path) -> dict[str, Any]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    try:
        if one.get("given"):
            shutil.copytree(one["given"], disk / "given")
        found: dict[str, Any] = {"full": []}
        for free_kb in one["free_kb"]:
            fill(disk, free_kb)
            found["full"].append(run(one["arguments"], disk))
            (disk / FILLER).unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        found["read-only"] = run(one["arguments"], disk)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        found["room"] = run(one["arguments"], disk)
        found["files"] = sorted(path.relative_to(disk).as_posix() for path in disk.rglob("*") if path.is_file())
        if one.get("kept"):
            shutil.copytree(disk / one["kept"][0], one["kept"][1])
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    return found


if __name__ == "__main__":
    place, specification = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text("utf-8"))
    sys.path.append(str(Path(__file__).parents[2]))
    from tests import less_work

    less_work.draw_less()
    less_work.export_less()
    os.environ["FUNDUSCOPE_CACHE"] = os.environ.get("FUNDUSCOPE_CACHE", str(place / "cache"))
    answer = {}
    for each in specification:
        with contextlib.redirect_stdout(sys.stderr):
            answer[each["name"]] = case(each, place)
        print(json.dumps({each["name"]: answer[each["name"]]}), flush=True)
