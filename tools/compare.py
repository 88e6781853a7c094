"""Does it help? python tools/compare.py --config configs/digits.yaml --set center=null ..."""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
