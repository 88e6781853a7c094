"""Write a recipe: python tools/init.py data/my_folder"""

import sys

from detcenter.cli import main

if __name__ == "__main__":
    sys.exit(main(["init", *sys.argv[1:]]))
