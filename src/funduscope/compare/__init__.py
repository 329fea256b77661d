"""Several runs side by side on one page: scores, paired tests, costs and curves."""
