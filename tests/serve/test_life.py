"""From start to end: a model that is missing, one that changes, a worker that dies, a service that is stopped."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import httpx
import pytest
from tests.cli.conftest import CARD, write_model
from tests.serve.conftest import PATIENCE_S, Service, running, wait_for
from tests.serve.test_limits import in_background, waits


def test_a_worker_that_is_killed_costs_its_photo_a_500_and_nothing_more(service: Service, eye: bytes) -> None:
    with service.busy() as worker:
        photo, lost = in_background(service, content=eye)
        wait_for(lambda: waits(service, 1))
        waiting, kept = in_background(service, content=eye)
        wait_for(lambda: waits(service, 2))
        worker.kill()
        photo.join(PATIENCE_S)
    with service.client() as client:
        assert client.get("/healthz").status_code == 200
        waiting.join(PATIENCE_S)
        assert client.post("/v1/findings", content=eye).status_code == 200
    assert (lost[0].status_code, lost[0].json()["error"]["code"]) == (500, "E_INTERNAL")
    assert kept[0].status_code == 200
    assert service.lines("worker ended")[-1]["exit"] == -signal.SIGKILL
    assert service.worker.pid != worker.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_finishes_what_was_taken_and_takes_nothing_new(
    tiny: Path, eye: bytes, tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path, "--model", tiny, "--parallel", 1) as service:
        wait_for(service.is_ready)
        with service.busy() as worker:
            taken = [in_background(service, content=eye) for _ in range(2)]
            wait_for(lambda: waits(service, 2))
            service.process.send_signal(number)
            wait_for(lambda: _refuses(service))
        for thread, answers in taken:
            thread.join(PATIENCE_S)
            assert answers[0].status_code == 200
        assert service.process.wait(PATIENCE_S) == 0
        assert not worker.is_running()
        assert service.lines()[-1]["event"] == "ended"


def _refuses(service: Service) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(service.place) != 0


@pytest.mark.slow
def test_the_end_comes_within_the_deadline(tiny: Path, eye: bytes, tmp_path: Path) -> None:
    with running(tmp_path, "--model", tiny, "--parallel", 1, "--deadline", 2) as service:
        wait_for(service.is_ready)
        with service.busy(), socket.create_connection(service.place) as slow:
            thread, answers = in_background(service, content=eye)
            wait_for(lambda: waits(service, 1))
            slow.sendall(b"POST /v1/findings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(2 + 5 + 20) == 0
            cut = slow.recv(10_000).decode()
        thread.join(PATIENCE_S)
        assert answers[0].status_code == 503
        assert cut.startswith("HTTP/1.1 503"), "of a request that was still on its way"
        assert "E_BUSY" in cut
        assert "retry-after: " in cut.lower()


@pytest.mark.slow
def test_a_new_model_takes_over_without_a_lost_request(eye: bytes, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    with running(tmp_path / "service", "--model", path) as service, service.client() as client:
        wait_for(service.is_ready)
        before = client.get("/v1/model").json()
        write_model(path, CARD, seed=1)
        service.process.send_signal(signal.SIGHUP)
        hashes = set()
        while len(service.lines("model ready")) < 4 or len(hashes) < 2:
            answer = client.post("/v1/findings", content=eye)
            assert answer.status_code == 200
            hashes.add(answer.json()["model"]["sha256"])
        assert before["sha256"] in hashes
        assert client.get("/v1/model").json()["sha256"] in hashes - {before["sha256"]}
        path.write_bytes(b"no model")
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: service.lines("model not replaced"))
        assert client.post("/v1/findings", content=eye).status_code == 200
        assert not service.lines("worker ended")


def test_photo_that_is_being_read_outlives_a_reload(service: Service, eye: bytes) -> None:
    with service.busy() as former:
        thread, answers = in_background(service, content=eye)
        wait_for(lambda: waits(service, 1))
        loads = len(service.lines("model ready"))
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(service.lines("model ready")) > loads)
        with service.client() as client:
            assert client.post("/v1/findings", content=eye).status_code == 200
    thread.join(PATIENCE_S)
    assert answers[0].status_code == 200
    wait_for(lambda: not former.is_running())


def test_worker_that_dies_without_a_photo_is_replaced(service: Service, eye: bytes) -> None:
    service.worker.kill()
    wait_for(lambda: not service.is_ready())
    with service.client() as client:
        assert client.post("/v1/findings", content=eye).status_code == 200


@pytest.mark.slow
def test_workers_end_with_a_service_that_is_killed(tiny: Path, tmp_path: Path) -> None:
    with running(tmp_path, "--model", tiny, "--parallel", 1) as service:
        wait_for(service.is_ready)
        worker = service.worker
        service.process.kill()
        wait_for(lambda: not worker.is_running())


@pytest.mark.slow
def test_it_ends_with_the_terminal_that_it_was_started_in(tiny: Path, tmp_path: Path) -> None:
    """Nobody would see it any more; it would keep its port, and answer whoever asks."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "funduscope", "serve", "--port", "0", "--model", str(tiny)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=theirs, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
    os.close(theirs)
    wait_for(lambda: b"model ready" in (tmp_path / "log").read_bytes())
    os.close(ours)
    assert process.wait(PATIENCE_S) == 0
    assert b'"ended"' in (tmp_path / "log").read_bytes()


def test_a_signal_to_load_anew_that_comes_too_early_ends_nothing(tiny: Path, tmp_path: Path) -> None:
    with running(tmp_path, "--model", tiny, "--parallel", 1) as service:
        wait_for(lambda: service.lines("listening"))
        for _ in range(20):  # while it starts
            service.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        wait_for(service.is_ready)


def test_without_its_model_it_lives_and_is_not_ready(eye: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    options = "--model", tmp_path / "broken.onnx", "--parallel", 1
    with running(tmp_path / "service", *options) as service, service.client() as client:
        assert client.get("/healthz").status_code == 200
        failed = wait_for(lambda: service.lines("model failed"))[0]
        assert failed["code"] == "E_MODEL"
        for answer in (client.get("/readyz"), client.get("/v1/model"), client.post("/v1/findings", content=eye)):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "E_BUSY")
            assert int(answer.headers["retry-after"]) >= 1
        write_model(tmp_path / "broken.onnx")
        wait_for(service.is_ready)
        assert client.post("/v1/findings", content=eye).status_code == 200


def test_a_full_disk_under_its_log_costs_no_answer(tiny: Path, eye: bytes, tmp_path: Path) -> None:
    """The log is all that a service writes; /dev/full refuses each byte as a full disk does. Temporary files have no
    place either."""
    if not Path("/dev/full").exists():
        pytest.skip("a device that is always full is Linux's")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--model", str(tiny), "--parallel", "1"]
    command = [sys.executable, "-m", "funduscope", "serve", *options]
    environment = os.environ | {"TMPDIR": str(tmp_path / "none"), "PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("wb") as full, (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(command, stdout=full, stderr=errors, env=environment, cwd=tmp_path)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
            wait_for(lambda: _is_ready(client))
            for form in ({"content": eye}, {"files": {"photo": ("eye.png", eye)}}):
                answer = client.post("/v1/findings", **form)
                assert (answer.status_code, answer.json()["photo"]["sha256"] != "") == (200, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
    assert (tmp_path / "errors").read_text() == ""


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_port_in_use_is_one_line(service: Service, tiny: Path) -> None:
    command = [sys.executable, "-m", "funduscope", "serve", "--port", str(service.place[1]), "--model", tiny]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert str(service.place[1]) in done.stderr


def test_the_front_process_has_no_model(service: Service) -> None:
    """A picture that a decoder crashes on ends the worker and not the service."""
    maps = Path(f"/proc/{service.process.pid}/maps")
    if not maps.exists():
        pytest.skip("what a process has loaded is read from /proc")
    assert "onnxruntime" not in maps.read_text()
    assert "onnxruntime" in Path(f"/proc/{service.worker.pid}/maps").read_text()
    assert httpx.get(f"{service.address}/healthz", trust_env=False).status_code == 200


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """A pipe takes 64 kB; a line that it does not take is dropped."""
    program = "\n".join(
        [
            "from funduscope.serve.json_logs import JsonLog",
            "log = JsonLog()",
            "for number in range(5000): log('request', {'number': number})",
            f"open({str(tmp_path / 'done')!r}, 'w').close()",
        ]
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.wait(60) == 0
    assert (tmp_path / "done").exists()
    assert process.stdout is not None
    lines = [json.loads(line) for line in process.stdout]
    assert [one["number"] for one in lines[:100]] == list(range(100))
