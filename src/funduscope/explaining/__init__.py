"""Explanations that need torch and weights: maps by gradients, attention maps, and how far they can be believed."""
