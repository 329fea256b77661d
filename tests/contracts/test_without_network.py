"""Batch, page, service and training on a machine without a network: each works, and none tries to reach another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALONE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""A command in a network of its own, in which there is nobody but itself."""

HOOK = """
import ipaddress, os, sys

def is_here(address):
    if not isinstance(address, tuple):
        return True  # a socket in the file system
    try:
        return ipaddress.ip_address(address[0] or "127.0.0.1").is_loopback
    except ValueError:
        return address[0] == "localhost"

def watch(event, arguments):
    asked = {
        "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0
    }.get(event)
    if asked is None:
        return
    address = arguments[asked] if asked else (arguments[0] or "127.0.0.1",)
    if isinstance(address[0] if isinstance(address, tuple) else "", bytes):
        address = (address[0].decode(),)
    if not is_here(address):
        with open(os.environ["REACHED"], "a") as file:
            print(event, address, file=file)

sys.addaudithook(watch)
"""
"""Python reads this in each process as it starts: it notes every address of another machine that is asked for."""

WORK = {
    "batch": "tests/batch/test_run.py::test_counts_add_up_and_what_failed_is_named",
    "service": "tests/serve/test_answers.py::test_findings_and_zip_are_what_predict_writes",
    "page": "tests/app/test_browser.py::test_a_photo_is_read_and_viewed",
    "training": "tests/training/test_processes.py::test_a_training_of_two_processes_is_that_of_one",
}


@pytest.mark.slow
@pytest.mark.parametrize("part", WORK)
def test_it_works_alone_and_reaches_for_nobody(part: str, tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a network of their own (unshare, ip)")
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    reached = tmp_path / "reached.txt"
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "REACHED": str(reached)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    tries = f"import socket; socket.socket().connect_ex(('192.0.2.1', 9))  # {part}"
    subprocess.run([*ALONE, sys.executable, "-c", tries], env=environment, check=True)
    assert "192.0.2.1" in reached.read_text(), "the hook would see a connection"
    reached.unlink()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "", "-v", WORK[part]]
    done = subprocess.run([*ALONE, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    if "skipped" in done.stdout.splitlines()[-1]:
        pytest.skip(f"{part}: {WORK[part]} skips here")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout.splitlines()[-1]
    assert not reached.exists(), reached.read_text()
