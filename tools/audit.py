"""Which labels are wrong? python tools/audit.py --config configs/digits.yaml"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["audit", *sys.argv[1:]]))
