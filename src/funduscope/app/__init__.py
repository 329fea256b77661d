"""The web page: a thin view of findings, for people who have never seen a command line. Bound to this machine alone."""
