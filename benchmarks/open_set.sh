#!/usr/bin/env bash
# The tables of docs/unknown.md: objects of classes that were left out, by detectors with center
# loss and without: an R-CNN's own vectors, and the embedding of an SSD. See look_alikes.sh.
#
#     [JOBS=2] [SEEDS=5] [OUT=runs/open_set] bash benchmarks/open_set.sh [digits dice chess]
set -euo pipefail
cd "$(dirname "$0")/.."
. benchmarks/look_alikes.sh

# Images with these classes are left out of training; epochs make up for what is left.
declare -A unknown=(
    [digits]="--data.unknown ['8','9'] --data.root data/open --data.digits.train 480 --data.digits.val 500"
    [dice]="--data.unknown [six] --train.epochs 30 --train.eval_every 30"
    [chess]="--data.unknown [white_queen,black_queen] --train.epochs 80 --train.eval_every 80"
)
of() { # folder, variants and keys
    local folder=$1 first=$2 second=$3
    shift 3
    "${PYTHON:-.venv/bin/python}" benchmarks/open_set.py "$@" --train.seed 100 \
        --set "$first" --set "$second" --seeds "${SEEDS:-5}" --jobs "${JOBS:-2}" \
        --output "${OUT:-runs/open_set}/$folder"
}

[ $# -gt 0 ] || set -- digits dice chess
for name in "$@"; do
    # shellcheck disable=SC2086 # lists of words
    of "${name}_rcnn" "plain: center=null" "term: center.weight=3" ${rcnn[$name]} \
        --train.weight_decay 0.05 ${unknown[$name]}
    # shellcheck disable=SC2086
    of "${name}_ssd" "weight 0: center.weight=0" "term: center.weight=0.3" ${ssd[$name]} ${unknown[$name]}
done
