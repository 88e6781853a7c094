# The data sets of the tables in docs/audit.md and docs/unknown.md, and the keys of the second study
# (docs/study/protocol.md) for them. Photographs lie in data/ or $DETCENTER_DATA (docs/public_data.md);
# WEIGHTS is a file of a backbone's weights, for machines without a network.

photographs="--data.workers 0 --train.mixed_precision bf16 ${WEIGHTS:+--model.weights_backbone $WEIGHTS}"
pyramid="--config fasterrcnn_mobilenetv2_dice --model.out_channels 128 --train.epochs 12
    --train.eval_every 12 $photographs"

declare -A rcnn=(
    [digits]="--config digits_rcnn --data.root data/digits_200"
    [dice]="$pyramid"
    [chess]="$pyramid --data.format coco --data.root data/chess --data.augment.rotate90 false
        --model.anchor_scales [[0.06,0.08],[0.11,0.15]] --model.aspect_ratios [0.4,0.6]"
    [bccd]="$pyramid --data.format voc --data.root data/bccd --data.train trainval --data.val test
        --data.augment.rotate90 false --model.strides [8,16,32] --model.aspect_ratios [0.75]
        --model.anchor_scales [[0.08,0.1],[0.14,0.2],[0.27,0.36]]"
)
declare -A ssd=([digits]="--config digits_lab --data.root data/digits_200")
for set in dice chess bccd; do
    ssd[$set]="--config $set --train.epochs 20 --train.eval_every 20 $photographs"
done
