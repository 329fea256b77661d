"""Who may ask: nobody beyond this machine without a token."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.serve.conftest import running, wait_for

from funduscope.cli.main import main
from funduscope.i18n.errors import CodedError
from funduscope.serve.auth import Guard, Tokens, is_loopback
from funduscope.serve.limits import RefusalError

ONE, TWO, THREE = "1" * 32, "two." * 8, "3" * 64


def test_tokens_open_what_no_one_else_sees_and_are_read_again(tiny: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# of the camera room\n{ONE}\n\n  {TWO}\n")
    options = "--model", tiny, "--tokens", tokens, "--host", "0.0.0.0", "--parallel", 1
    with running(tmp_path / "service", *options) as service:
        address = f"http://127.0.0.1:{service.place[1]}"

        def status(token: str | None, path: str = "/openapi.json", kind: str = "Bearer") -> int:
            headers = {"authorization": f"{kind} {token}"} if token else {}
            return httpx.get(address + path, headers=headers, trust_env=False).status_code

        assert [status(token) for token in (ONE, TWO, None, THREE, ONE[1:], "#", "")] == [200, 200, *[401] * 5]
        assert [status(ONE, kind=kind) for kind in ("bearer", "Basic", "x")] == [200, 401, 401]
        assert [status(None, path) for path in ("/healthz", "/metrics", "/v1/model", "/x", "/../x")] == [
            200,
            *[401] * 4,
        ]
        refused = httpx.post(address + "/v1/findings", content=b"x", trust_env=False)
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == "E_TOKEN"
        tokens.write_text(f"{THREE}\n")
        wait_for(lambda: status(THREE) == 200)
        assert status(ONE) == 401
        tokens.unlink()
        wait_for(lambda: status(THREE) == 401)
        assert ONE not in service.log.read_text("utf-8")
        assert THREE not in service.log.read_text("utf-8")


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", f"{ONE}\nwith space {TWO}\n", None])
def test_a_file_without_good_tokens_is_refused_at_the_start(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokens").write_text(content)
    with pytest.raises(CodedError) as caught:
        Tokens(tmp_path / "tokens")
    assert caught.value.code == "E_CONFIG"
    assert "two" not in caught.value.says


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_it_does_not_listen_beyond_this_machine_without_tokens(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", host, "--port", "0"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "--tokens" in printed.err
    assert len(printed.err.splitlines()) == 1


def test_loopback_is_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost", "LocalHost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "", "localhost.example.org", "127.0.0.1.nip.io")))


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "localhost.:8000", "127.0.0.1:", "[::1]:8000", "[::1]"]
)
def test_a_request_that_names_this_machine_is_answered_however_it_is_spelled(host: str) -> None:
    Guard(None).check("/v1/findings", {"host": host})


def test_a_request_without_a_host_comes_from_no_browser() -> None:
    """HTTP/1.0, as some load balancers ask whether the service runs."""
    Guard(None).check("/healthz", {})
    with pytest.raises(RefusalError):
        Guard(None).check("/v1/findings", {"origin": "http://elsewhere.example"})
