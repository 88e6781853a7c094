"""Look at features: python tools/features.py --checkpoint runs/digits/best.pth"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["features", *sys.argv[1:]]))
