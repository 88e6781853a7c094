"""Train a detector: python tools/train.py --config configs/digits.yaml [--center null] ..."""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
