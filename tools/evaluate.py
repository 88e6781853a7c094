"""Measure a checkpoint: python tools/evaluate.py --checkpoint runs/digits/best.pth"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
