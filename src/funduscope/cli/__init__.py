"""The command line: one file per verb, shared options, terminal output and exit codes."""
