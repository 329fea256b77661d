"""Why a model answers as it does: maps, their reliability, and what would change the answer."""
