"""Encoders, decoders, heads and experts: from images to logits."""
