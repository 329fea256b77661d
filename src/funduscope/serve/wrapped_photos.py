"""Photos that come in a wrapping which the service does not take: JSON, base64, another multipart body."""

from __future__ import annotations

import base64
import re
from typing import Final

from funduscope.imaging.find_photos import START_BYTES, begins_like_photo
from funduscope.serve.limits import RefusalError

TAKEN: Final = "the photo's file as it is, as the body or as the one file of a form (multipart/form-data)"
"""What the service takes, for sentences."""

_HEAD_BYTES: Final = 1000
_BASE64_CHARS: Final = 4 * (START_BYTES // 3)
_BASE64: Final = re.compile(rb'\s*"?(?:data:[^,]{0,100},)?([A-Za-z0-9+/_\s-]+)')


def check_unwrapped(content: bytes, media_type: str = "") -> None:
    """Raises `RefusalError` E_FORMAT with what came and what is taken. A photo passes, whatever its media type says."""
    head = content[:_HEAD_BYTES]
    if begins_like_photo(head[:START_BYTES]):
        return

    wrapping = ""
    if media_type.startswith("multipart/"):  # multipart/related of STOW-RS, multipart/mixed
        wrapping = f"the body is {media_type.partition(';')[0]}"
    elif head.lstrip()[:1] in (b"{", b"["):
        wrapping = "the content is JSON"
    elif _is_base64_photo(head):
        wrapping = "the photo is encoded as base64"
    if wrapping:
        raise RefusalError("E_FORMAT", f"{wrapping}; expected {TAKEN}")


def _is_base64_photo(head: bytes) -> bool:
    """Whether content with this beginning is a photo in base64, in a data URL or bare."""
    match = _BASE64.match(head)
    if match is None:
        return False
    digits = b"".join(match[1].split())[:_BASE64_CHARS]
    return begins_like_photo(base64.urlsafe_b64decode(digits[: len(digits) // 4 * 4]))
