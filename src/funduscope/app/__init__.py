"""The web page: shows findings and lets a person correct them, in a browser on this machine only."""

from typing import Final

MODEL_VARIABLE: Final = "FUNDUSCOPE_APP_MODEL"
"""The environment variable that names the page's model: a JSON list of paths, empty for the shipped model."""
