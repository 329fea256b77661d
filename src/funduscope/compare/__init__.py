"""Runs side by side: scores, costs, tests of their differences, and losses on corrupted photos."""
