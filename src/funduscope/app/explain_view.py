"""What speaks for the answer, as a map with what is known of its worth; and what would change the grade."""

from __future__ import annotations

import io
from html import escape
from typing import Any, Final

import streamlit as st
from PIL import Image

from funduscope.app.session import Opened
from funduscope.app.uploads import filled_in
from funduscope.explain.class_activation import SHOWN, Explanation, explanation
from funduscope.explain.counterfactual import ALL, Answer, Change
from funduscope.explain.map_reliability import filling_message, map_messages
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Findings
from funduscope.report.heatmap import blend
from funduscope.vocabulary import LESIONS

WIDTH_PX: Final = 1000


def show_explanation(shown: Findings, opened: Opened, asked: Any, words: Words) -> None:
    """The section below the photo. shown: the findings as they are outlined; asked: by what these are known."""
    with st.expander(words("explain.title")):
        if not shown.gradable_ok:
            st.caption(words("explain.none"))
            return
        known = {target: explanation(shown, target) for target in SHOWN}
        there: dict[str, Explanation] = {target: one for target, one in known.items() if one is not None}
        if there:
            _map(shown, opened, there, words)
        else:
            answered = shown.grade is not None or shown.dme is not None
            st.caption(" ".join(words(key) for key in ("explain.none", *(["explain.checkpoint"] if answered else []))))
        _what_if(shown, opened, asked, words)


def _map(shown: Findings, opened: Opened, there: dict[str, Explanation], words: Words) -> None:
    target = st.segmented_control(
        words("explain.of"),
        list(there),
        default=next(iter(there)),
        format_func=lambda name: words(f"explain.{name}"),
        key="explain-target",
    )
    one = there.get(target) if target else None
    one = one or next(iter(there.values()))
    if one.target not in opened.maps:
        file = io.BytesIO()
        Image.fromarray(blend(shown, one, WIDTH_PX)).save(file, "JPEG", quality=88)
        opened.maps[one.target] = file.getvalue()
    st.image(opened.maps[one.target], width="stretch", caption=words("explain.what"))
    notes = [words.message(message.to_dict()) for message in map_messages(one, shown.model_sha256)]
    st.html(f"<ul class='fs-list'>{''.join(f'<li>{escape(says)}</li>' for says in notes)}</ul>")


def _what_if(shown: Findings, opened: Opened, asked: Any, words: Words) -> None:
    st.markdown(f"###### {words('fill.title')}")
    st.caption(words("fill.what"))
    if not any(shown.mask(code).any() for code in shown.codes if code in LESIONS):
        st.caption(words("fill.none"))
        return
    if opened.changes is not None and opened.changes[0] != asked:
        opened.changes = None  # other outlines would be filled in by now
    if opened.changes is None:
        if not st.button(words("fill.button"), key="fill-in"):
            return
        with st.spinner(words("fill.running")):
            opened.changes = asked, filled_in(shown)
        st.rerun()  # the table takes the button's place
    _table(opened.changes[1], words)
    st.caption(words.message(filling_message(shown.model_sha256).to_dict()))


def _table(changes: tuple[Change, ...], words: Words) -> None:
    heads = ["fill.kind", "grade.title", "explain.referable", "dme.title", "explain.edema"]
    rows = [(words("fill.nothing"), changes[0].before)]
    rows += [(words("fill.all") if one.code == ALL else words.structure(one.code), one.after) for one in changes]
    top = "".join(f"<th scope='col'>{escape(words(key))}</th>" for key in heads)
    body = "".join(f"<tr><th scope='row'>{escape(name)}</th>{_cells(answer)}</tr>" for name, answer in rows)
    st.html(f"<table class='fs-chances fs-even'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")


def _cells(answer: Answer) -> str:
    def chance(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.0f} %"

    told = [
        "–" if answer.grade is None else str(answer.grade),
        chance(answer.referable),
        "–" if answer.dme is None else str(answer.dme),
        chance(answer.edema),
    ]
    return "".join(f"<td>{text}</td>" for text in told)
