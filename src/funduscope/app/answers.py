"""The cards next to the photo: grade, edema risk, further photo tasks, evidence, referral, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

import streamlit as st

from funduscope.i18n.languages import Words
from funduscope.report.html import evidence_table, further_answers, model_line
from funduscope.vocabulary import DME_RISKS, GRADES, REFERABLE_FROM

STYLE: Final = """<style>
.stAppHeader, .stAppHeader * { background: none; pointer-events: none; }
.stAppHeader button, .stAppHeader button * { pointer-events: auto; }
.stMainBlockContainer { padding: 1.25rem 1rem 3rem; max-width: 120rem; }
@media (min-width: 40.0625rem) {
  .stMainBlockContainer { padding-inline: 1.5rem; }
  /* The photo stays in sight while its answers and controls scroll. */
  .stColumn:has(.st-key-photo) { position: sticky; top: 0.5rem; align-self: flex-start; }
  /* Its tools, too, where the window is too low for both. */
  .stColumn:has(.st-key-photo) { max-height: calc(100vh - 1rem); overflow-y: auto; }
}
.fs-top { margin: 0; padding: 0; font-size: 0.9rem; font-weight: 400; line-height: 1.35; }
.fs-top strong { font-size: 1.35rem; margin-right: 0.6rem; }
.fs-name { font-size: 1.1rem; font-weight: 600; margin: 0; padding: 0; overflow-wrap: anywhere; }
.fs-card { font-size: 1rem; font-weight: 600; margin: 0; padding: 0; }
.fs-title { font-size: 0.85rem; margin: 0; opacity: 0.75; }
.fs-answer { font-size: 1.35rem; line-height: 1.25; font-weight: 600; margin: 0 0 0.4rem; }
.fs-banner { border: 2px solid #e07b00; border-radius: 0.5rem; padding: 0.7rem 0.9rem; }
.fs-banner { background: rgb(224 123 0 / 12%); }
.fs-banner strong { font-size: 1.15rem; line-height: 1.3; }
.fs-alert { color: color-mix(in srgb, #e07b00 72%, currentColor); }
.fs-chances { width: 100%; border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
.fs-chances th, .fs-chances td { text-align: left; font-weight: 400; padding: 0.15rem 0.5rem 0.15rem 0; border: 0; }
.fs-chances td:last-child { text-align: right; white-space: nowrap; padding-right: 0; }
.fs-chances .chosen > * { font-weight: 600; }
.fs-chances .room { width: 38%; }
.fs-bar { height: 0.6rem; border-radius: 0.2rem; background: rgb(128 128 128 / 25%); }
.fs-bar > div { height: 100%; border-radius: 0.2rem; background: rgb(128 128 128 / 75%); }
.fs-chances .chosen .fs-bar > div { background: #2f7dd1; }
.fs-even td:last-child { text-align: left; }
.fs-list { margin: 0; padding-left: 1.1rem; font-size: 0.9rem; }
.fs-list li { margin: 0.15rem 0; }
</style>"""


def show_headline(found: Mapping[str, Any], words: Words) -> None:
    """The answer in one card: whether to trust it, grade, edema risk, referral with its reasons.

    found: as in findings.json, with the thresholds and corrections that are shown.
    """
    parts, gradable = found["headline"], found["gradable"]
    if parts["trust"] is not None:
        reasons = [words.message(reason) for reason in gradable["reasons"]]
        notes = reasons if gradable["ok"] else [*reasons, words("gradable.nothing_said")]
        banner = f"<strong>{escape(words.message(parts['trust']))}</strong>{_list(notes)}"
        st.html(f"<div class='fs-banner' role='alert'>{banner}</div>")
    said = {name: words.message(parts[name]) for name in ("grade", "dme", "referral") if parts[name] is not None}
    if not said:
        return
    with st.container(border=True, key="headline"):
        for name, text in said.items():
            is_alert = name == "referral" and bool((found["advice"] or {}).get("refer"))
            title = words(f"{'advice' if name == 'referral' else name}.title")
            st.html(f"<p class='fs-title'>{escape(title)}</p>{_answer_html(text, alert=is_alert)}")
        if found["advice"] is not None:
            bullet_list(words.message(reason) for reason in found["advice"]["because"])


def show_answers(found: Mapping[str, Any], words: Words) -> None:
    """The cards with probabilities and evidence. found: see `show_headline`."""
    if not found["gradable"]["ok"]:
        return
    if found["predicted_grade"] is not None:
        _grade(found, words)
    if found["dme"] is not None:
        _edema(found, words)
    for task in further_answers(found, words):
        with _card(task.title):
            st.html(_answer_html(task.names[task.chosen]))
            _probabilities(task.title, task.names, task.probabilities, task.chosen)
    if found["evidence"]:
        _evidence(found, words)


def show_grade_first(found: Mapping[str, Any], picture: bytes, words: Words) -> None:
    """The grade next to a small picture, while lesions are still being searched for. found: as in findings.json."""
    left, right = st.columns([3, 2], gap="medium")
    left.image(picture, width="stretch")
    with right:
        show_headline(found, words)
        _grade(found, words)


def show_warnings(found: Mapping[str, Any], words: Words) -> None:
    """Warnings about this photo, its quality, the model, and that this is no medical device."""
    if found["warnings"]:
        with _card(words("warnings.title")):
            bullet_list(words.message(warning) for warning in found["warnings"])
    if found["gradable"].get("score") is not None:
        st.caption(words("gradable.score", {"score": words.number(found["gradable"]["score"], ".2f")}))
    if found.get("training_distance"):
        percentile = int(found["training_distance"]["percentile"])  # as the warning has it
        st.caption(words("training.distance", {"percentile": percentile}))
    st.caption(words("not_a_device"))
    st.caption(model_line(found["model"], words))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: a photo's name may hold markup."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]()<>#+-.!|~$:&^=" else char for char in text)


def bullet_list(sentences: Iterable[str]) -> None:
    """A list of plain sentences."""
    st.html(_list(sentences))


def text_table(heads: Sequence[str], rows: Iterable[Sequence[str]], style: str = "") -> None:
    """A table of plain texts; the first cell of a row is its header. style: one more CSS class."""
    top = "".join(f"<th scope='col'>{escape(head)}</th>" for head in heads)
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    st.html(f"<table class='fs-chances {style}'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")


def _grade(found: Mapping[str, Any], words: Words) -> None:
    grade, referable = found["predicted_grade"], found["referable"]
    with _card(words("grade.title")):
        names = [words(f"grade.{number}") for number in range(len(GRADES))]
        _probabilities(words("grade.chances"), names, found["probabilities"], grade)
        if found.get("grade_set"):
            st.caption(words("grade.set", {"grades": ", ".join(map(str, found["grade_set"]))}))
        if referable is not None:
            values = {key: words.number(referable[key], ".0%") for key in ("probability", "threshold")}
            key = "referable.yes" if referable["value"] else "referable.no"
            st.caption(words(key, values | {"grade": REFERABLE_FROM}))
        st.caption(words("grade.scale"))


def _edema(found: Mapping[str, Any], words: Words) -> None:
    risk = found["dme"]["risk"]
    with _card(words("dme.title")):
        names = [words(f"dme.{number}") for number in range(len(DME_RISKS))]
        _probabilities(words("dme.chances"), names, found["dme"]["probabilities"], risk)
        lesion = (found["lesions"] or {}).get("EX") or {}
        if lesion.get("nearest_fovea_dd") is not None:
            distance = words.number(lesion["nearest_fovea_dd"], ".2f")
            st.caption(words("dme.geometry", {"distance": distance}))


def _evidence(found: Mapping[str, Any], words: Words) -> None:
    with _card(words("evidence.title")):
        heads, *rows = evidence_table(found, words)
        text_table(heads, rows)
        bullet_list(words.message(reason) for reason in found["evidence"])


def _probabilities(title: str, names: Sequence[str], probabilities: Sequence[float], chosen: int) -> None:
    """A table with a bar for each class; the chosen one is bold."""
    rows = "".join(
        f"<tr class='{'chosen' if number == chosen else ''}'><th scope='row'>{number} {escape(name)}</th>"
        f"<td class='room'><div class='fs-bar'><div style='width:{100 * probability:.1f}%'></div></div></td>"
        f"<td>{100 * probability:.0f} %</td></tr>"
        for number, (name, probability) in enumerate(zip(names, probabilities, strict=True))
    )
    st.html(f"<table class='fs-chances' aria-label='{escape(title)}'><tbody>{rows}</tbody></table>")


def _card(title: str) -> Any:
    card = st.container(border=True)
    card.html(card_title(title))
    return card


def card_title(title: str) -> str:
    """A heading without the link that Streamlit's have, at which the tabulator would stop."""
    return f"<h3 class='fs-card'>{escape(title)}</h3>"


def _answer_html(text: str, *, alert: bool = False) -> str:
    together = escape(text).replace(" %", "\N{NO-BREAK SPACE}%")
    return f"<p class='fs-answer{' fs-alert' if alert else ''}'>{together}</p>"


def _list(sentences: Iterable[str]) -> str:
    return f"<ul class='fs-list'>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
