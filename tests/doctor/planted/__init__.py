"""Faults planted in data sets of drawn eyes and of copies of real photos, and how many of them the doctor finds."""
