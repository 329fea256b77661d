"""Who may ask: bearer tokens from a file; without one, programs of this machine alone."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from funduscope.i18n.errors import CodedError
from funduscope.serve.limits import RefusalError

MIN_TOKEN_LENGTH: Final = 32
PATHS_WITHOUT_TOKEN: Final = frozenset({"/healthz", "/readyz"})
"""What load balancers and supervisors ask without a token: these answers hold nothing about photos."""

_TOKEN: Final = re.compile(rf"[A-Za-z0-9._~+/=-]{{{MIN_TOKEN_LENGTH},512}}")


class Tokens:
    """The tokens of a file: one per line; empty lines and those that begin with # are left out.

    The file is read at every request, so that a token is withdrawn by removing its line; if the
    file is emptied or removed, every token is rejected. Raises `CodedError` E_CONFIG if the file
    cannot be read at first, has no token, or one that is too short to be guarded by its length.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            lines = _lines(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise CodedError("E_CONFIG", f"the tokens {path} cannot be read ({reason}): name a readable file") from None
        if not lines or not all(map(_TOKEN.fullmatch, lines)):
            says = (
                f"{path} must have one token a line, each of {MIN_TOKEN_LENGTH} or more letters, digits and ._~+/=-, "
                "such as `openssl rand -hex 32` prints"
            )
            raise CodedError("E_CONFIG", says)

    def __contains__(self, token: str) -> bool:
        """Whether the token is valid. Takes the same time for each wrong one: compares with all."""
        try:
            lines = _lines(self._path)
        except (OSError, ValueError):
            return False

        candidate = _digest(token)
        matches = [hmac.compare_digest(candidate, _digest(line)) for line in lines if _TOKEN.fullmatch(line)]
        return any(matches)


class Guard:
    """Decides whether a request may continue. tokens: None if the service is reachable from this machine only."""

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise `RefusalError` for a request that may not continue.

        Without a valid token it is E_TOKEN. Where no tokens are set it is E_ORIGIN, for what a page
        of another site makes a browser send. headers: names in lower case.
        """
        if self._tokens is None:
            _check_origin(headers)
        elif path not in PATHS_WITHOUT_TOKEN:
            kind, _, token = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or token.strip() not in self._tokens:
                sentence = "no valid token came; expected the header `Authorization: Bearer TOKEN`"
                raise RefusalError("E_TOKEN", sentence)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only. Of names, localhost alone is."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_origin(headers: Mapping[str, str]) -> None:
    """A foreign name for this machine (DNS rebinding), or a page of another site, is refused. No name, as in HTTP/1.0,
    comes from no browser."""
    host = headers.get("host", "")
    name = re.sub(r":\d*$", "", host)
    origin = headers.get("origin", "")
    is_foreign = bool(host) and not is_loopback(name.strip("[]").removesuffix("."))
    if is_foreign or (origin and origin != f"http://{host}"):
        says = (
            "the request names another host, or comes from a page of another site; expected a program of this machine"
        )
        raise RefusalError("E_ORIGIN", says)


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
