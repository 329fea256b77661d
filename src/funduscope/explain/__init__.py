"""Why a model answers as it does: maps, how far they can be believed, and what would change the answer."""
