"""Another layout: python tools/convert.py --config configs/dice.yaml --to yolo dice_yolo"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
