"""What Streamlit shows of itself, replaced by this program's own words or hidden."""

from __future__ import annotations

import json

from funduscope.i18n.languages import Words

_STYLE = """<style>
/* A button that stops a run half done; the connection's state. */
.stStatusWidget button, .stConnectionStatus { display: none; }
body:has(.stApp:is(STATES)) .stDialog section[role=dialog] {
  > h2, > h2 + div > div { font-size: 0; }
  > h2::after { content: TITLE; font-size: 1.5rem; }
  > h2 + div > div::after { content: SAYS; font-size: 1rem; }
}
</style>"""

_LOST = ", ".join(f"[data-test-connection-state={state}]" for state in ("PINGING_SERVER", "DISCONNECTED_FOREVER"))


def own_words(words: Words) -> str:
    """A style for the page, in its language."""
    texts = {"STATES": _LOST, "TITLE": _quoted(words("offline.title")), "SAYS": _quoted(words("offline.says"))}
    style = _STYLE
    for name, text in texts.items():
        style = style.replace(name, text)
    return style


def _quoted(text: str) -> str:
    """A text as a string of CSS."""
    return json.dumps(text, ensure_ascii=False).replace("<", "\\3c ")
