"""The web page: shows findings and lets a person correct them, in a browser on this machine only."""
