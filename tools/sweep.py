"""Try several weights: python tools/sweep.py --config configs/digits_2d.yaml"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
