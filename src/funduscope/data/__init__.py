"""Photographs with what is known of them: one small reader per data set, a table for people's own, and the folds."""
