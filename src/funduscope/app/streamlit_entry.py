"""The script that Streamlit runs for the page. An error is shown without details, which may name a file."""

import logging

from streamlit import error

from funduscope.app.page_view import requested_language, show
from funduscope.i18n.errors import CODES
from funduscope.i18n.languages import Words

try:
    show()
except Exception as fault:
    log = logging.getLogger("funduscope.app")
    log.error("the page met an unexpected %s", type(fault).__name__)
    log.debug("traceback", exc_info=fault)
    code, says = getattr(fault, "code", None), getattr(fault, "says", None)
    if code in CODES and isinstance(says, str):  # an error of the model has a code and a sentence
        error(f"{Words(requested_language()).error(code, says, {})} ({code})")
    else:
        error(Words().error("E_INTERNAL", f"a fault of this program ({type(fault).__name__}): please report it", {}))
