"""The explanation below the photo: a map of what speaks for the answer, and how the answer changes without lesions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from funduscope.app.answers import bullet_list, card_title, text_table
from funduscope.app.session import OpenPhoto
from funduscope.app.uploads import model, run_counterfactual
from funduscope.explain.class_activation import EXPLAINED_TARGETS, Explanation, Target, explanation
from funduscope.explain.counterfactual import ALL, Change, PredictedAnswer
from funduscope.explain.map_reliability import filling_message, map_messages
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Findings
from funduscope.inference.model_scores import UNKNOWN
from funduscope.report.heatmap import blend
from funduscope.report.model_maps import checkpoint_maps
from funduscope.report.photo_jpegs import jpeg
from funduscope.vocabulary import LESIONS

if TYPE_CHECKING:
    from funduscope.report.checkpoint_maps import CheckpointMaps

WIDTH_PX: Final = 1000


def show_explanation(shown: Findings, opened: OpenPhoto, outlines: Any, words: Words) -> None:
    """The section below the photo. shown: the current findings. outlines: changes whenever their outlines do."""
    with st.expander(words("explain.title")):
        if not shown.gradable_ok:
            st.caption(words("explain.none"))
            return
        maps = {target: one for target in EXPLAINED_TARGETS if (one := explanation(shown, target)) is not None}
        network = checkpoint_maps(model())
        if network is not None:
            maps |= _by_network(shown, opened, network, words)
        if maps:
            _map(shown, opened, maps, words)
        elif network is None:
            is_answered = shown.grade is not None or shown.dme is not None
            st.caption(" ".join(words(key) for key in ("explain.none", "explain.checkpoint")[: 1 + is_answered]))
        _counterfactual(shown, opened, outlines, words)


def _by_network(shown: Findings, opened: OpenPhoto, network: CheckpointMaps, words: Words) -> dict[Target, Explanation]:
    """Maps by Grad-CAM of answers without an exact one, once a person asked for them; shows the attention gates."""
    if opened.by_network is None:
        if not st.button(words("explain.compute"), key="explain-compute"):
            return {}
        with st.spinner(words("explain.computing")):
            made = [one for target in EXPLAINED_TARGETS if (one := network.explanation(shown, target)) is not None]
            gates = jpeg(network.attention_picture(shown, WIDTH_PX), quality=88) if network.gated else None
        opened.by_network = {one.target: one for one in made if not one.exact}, gates
        st.rerun()  # the maps replace the button
    maps, gates = opened.by_network
    if gates is not None:
        st.image(gates, width="stretch")
    return maps


def _map(shown: Findings, opened: OpenPhoto, maps: Mapping[str, Explanation], words: Words) -> None:
    first = next(iter(maps))
    target = st.segmented_control(
        words("explain.of"),
        list(maps),
        default=first,
        format_func=lambda name: words(f"explain.{name}"),
        key="explain-target",
        required=True,
    )
    one = maps.get(target or first, maps[first])
    if one.target not in opened.maps:
        opened.maps[one.target] = jpeg(blend(shown, one, WIDTH_PX), quality=88, chroma="420")
    st.image(opened.maps[one.target], width="stretch", caption=words("explain.what"))
    bullet_list(words.message(message.to_dict()) for message in map_messages(one, shown.model_sha256))


def _counterfactual(shown: Findings, opened: OpenPhoto, outlines: Any, words: Words) -> None:
    st.html(card_title(words("fill.title")))
    st.caption(words("fill.what"))
    if not any(shown.mask(code).any() for code in shown.codes if code in LESIONS):
        st.caption(words("fill.none"))
        return
    if opened.changes is not None and opened.changes[0] != outlines:
        opened.changes = None  # it was computed for other outlines
    if opened.changes is None:
        if not st.button(words("fill.button"), key="fill-in"):
            return
        with st.spinner(words("fill.running")):
            opened.changes = outlines, run_counterfactual(shown)
        st.rerun()  # the table replaces the button
    _table(opened.changes[1], words)
    st.caption(words.message(filling_message(shown.model_sha256).to_dict()))


def _table(changes: tuple[Change, ...], words: Words) -> None:
    heads = ["fill.kind", "grade.title", "explain.referable", "dme.title", "explain.edema"]
    rows = [(words("fill.nothing"), changes[0].before)]
    rows += [(words("fill.all") if one.code == ALL else words.structure(one.code), one.after) for one in changes]
    text_table([words(key) for key in heads], [(name, *_cells(answer)) for name, answer in rows], "fs-even")


def _cells(answer: PredictedAnswer) -> list[str]:
    shown = (answer.grade, "{}"), (answer.referable, "{:.0%}"), (answer.dme, "{}"), (answer.edema, "{:.0%}")
    return [UNKNOWN if value is None else form.format(value).replace("%", " %") for value, form in shown]
