"""The command line as `python -m funduscope`, for where the script `funduscope` is not on the path."""

from __future__ import annotations

import sys

from funduscope.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
