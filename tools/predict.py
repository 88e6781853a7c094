"""Detect in images: python tools/predict.py --checkpoint runs/digits/best.pth IMAGES"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
