"""Pack a data set: python tools/pack.py --config configs/dice.yaml --output data/dice.lmdb"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["pack", *sys.argv[1:]]))
