"""What is said to people, by code and values, in every language: one table of strings."""
