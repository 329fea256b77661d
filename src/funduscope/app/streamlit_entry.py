"""The script that Streamlit runs for the page. An error is shown without details, which may name a file."""

import logging

from streamlit import error

from funduscope.app.page_view import requested_language, show
from funduscope.i18n.errors import code_and_sentence
from funduscope.i18n.languages import Words

try:
    show()
except Exception as fault:
    log = logging.getLogger("funduscope.app")
    log.error("unexpected %s while the page ran", type(fault).__name__)
    log.debug("traceback", exc_info=fault)
    code, says = code_and_sentence(fault, "a fault of this program")
    error(f"{Words(requested_language()).error(code, says, {})} ({code})")
