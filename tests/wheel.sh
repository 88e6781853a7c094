#!/usr/bin/env bash
# Builds the sdist and the wheel, and uses the wheel outside the repository where nothing else is
# installed: the plugin alone first, then the commands. Takes Python and the package index.
set -euo pipefail
python=${PYTHON:-python3}
repository=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
cp "$repository/README.md" "$repository/tests/readme_code.py" "$folder"
cd "$folder"

"$python" -m venv tools
tools/bin/python -m pip install --quiet build twine
tools/bin/python -m build --outdir dist "$repository" >build.log || { cat build.log; exit 1; }
tools/bin/twine check --strict dist/*
wheel=$(echo dist/*.whl)

"$python" -m venv venv
venv/bin/python -m pip install --quiet "$wheel"
venv/bin/detcenter --version
venv/bin/python readme_code.py README.md
if venv/bin/detcenter train --config digits 2>missing.txt; then
    echo "detcenter train goes without its libraries?"
    exit 1
fi
cat missing.txt
grep -qx 'detcenter train needs .*: pip install "detcenter\[train\]"' missing.txt

venv/bin/python -m pip install --quiet "$wheel[train]"
venv/bin/detcenter env
venv/bin/detcenter train --config digits --train.epochs 1
test -s runs/digits/best.pth
