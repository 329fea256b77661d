"""What Streamlit runs for every look at the page. A fault is told without its details, which may hold a file's name."""

import logging

from streamlit import error

from funduscope.app.page_view import language_asked, show
from funduscope.i18n.errors import CODES
from funduscope.i18n.languages import Words

try:
    show()
except Exception as fault:
    logging.getLogger("funduscope.app").error("the page met an unexpected %s", type(fault).__name__)
    logging.getLogger("funduscope.app").debug("as follows", exc_info=fault)
    code, says = getattr(fault, "code", None), getattr(fault, "says", None)
    if code in CODES and isinstance(says, str):  # trouble with the model has a code and a sentence of its own
        error(f"{Words(language_asked()).error(code, says, {})} ({code})")
    else:
        error(Words().error("E_INTERNAL", f"a fault of this program ({type(fault).__name__}): please report it", {}))
