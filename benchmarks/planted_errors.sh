#!/usr/bin/env bash
# The tables of docs/audit.md: errors planted in four data sets, found by a Faster R-CNN with center
# loss and by one without, and rivals beside. See look_alikes.sh.
#
#     [JOBS=2] [SHARES="0.05 0.1"] [SEEDS=5] [OUT=runs/planted] \
#         bash benchmarks/planted_errors.sh [digits dice chess bccd]
set -euo pipefail
cd "$(dirname "$0")/.."
. benchmarks/look_alikes.sh

[ $# -gt 0 ] || set -- digits dice chess bccd
for name in "$@"; do
    # shellcheck disable=SC2086 # lists of words
    "${PYTHON:-.venv/bin/python}" benchmarks/planted_errors.py ${rcnn[$name]} \
        --train.seed 100 --train.weight_decay 0.05 \
        --set "term: center.weight=3" --set "plain: center=null" --jobs "${JOBS:-2}" \
        --seeds "${SEEDS:-5}" --shares ${SHARES:-0.05 0.1} --output "${OUT:-runs/planted}/$name"
done
