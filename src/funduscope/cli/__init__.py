"""The command line: one file a verb, what they share, and exit codes."""
