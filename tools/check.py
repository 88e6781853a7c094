"""Find bad data before training: python tools/check.py --config configs/digits.yaml"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
