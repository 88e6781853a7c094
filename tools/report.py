"""Show what runs learnt: python tools/report.py runs/digits runs/digits_baseline"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
