"""Run the command line as ``python -m NatureLM``."""

import sys

from NatureLM.cli import main

if __name__ == "__main__":
    sys.exit(main())
