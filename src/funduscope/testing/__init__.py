"""Drawn eyes whose every target is known: a public tool for those who write tests."""
