"""Runs side by side: what each scores, what it costs, where two of them differ, and what a changed look takes away."""
