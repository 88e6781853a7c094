#!/bin/sh
# A comparison by `--launcher slurm` on a SLURM of one node, set up for it and taken down again.
#
#     apt-get install -y slurm-wlm munge       # Debian; as root
#     pip install 'detcenter[slurm,plots]'
#     PYTHON=.venv/bin/python benchmarks/slurm_one_node.sh
#
# Four short trainings, two at a time. One job is cancelled while it trains: the run is reported as
# failed, and the same command trains it to its end. On the way that job is told, by SLURM's signal,
# that its time is nearly up: it saves, and comes again from the queue. Nothing is left running, and
# no file is written outside a temporary folder.
set -eu

PYTHON=${PYTHON:-python3}
HERE=$(cd "$(dirname "$0")/.." && pwd)
WORK=$(mktemp -d)
NODE=$(hostname -s)
export SLURM_CONF="$WORK/slurm.conf" OMP_NUM_THREADS=1
export PYTHONPATH="$HERE${PYTHONPATH:+:$PYTHONPATH}"

stop() {
    scancel --me 2>/dev/null || true
    for name in slurmd slurmctld munged; do
        if [ -s "$WORK/$name.pid" ]; then kill "$(cat "$WORK/$name.pid")" 2>/dev/null || true; fi
    done
    sleep 2
    rm -rf "$WORK"
}
trap stop EXIT

chmod 755 "$WORK"
mkdir "$WORK/munge" "$WORK/state" "$WORK/spool"
dd if=/dev/urandom of="$WORK/munge/key" bs=1024 count=1 2>/dev/null
chmod 700 "$WORK/munge"
chmod 600 "$WORK/munge/key"
mkdir "$WORK/socket"
munged --force --key-file="$WORK/munge/key" --pid-file="$WORK/munged.pid" \
    --log-file="$WORK/munge/log" --seed-file="$WORK/munge/seed" --socket="$WORK/socket/munge"

cat > "$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=$NODE
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$WORK/socket/munge
CryptoType=crypto/munge
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd.pid
SlurmctldLogFile=$WORK/slurmctld.log
SlurmdLogFile=$WORK/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$NODE Default=YES MaxTime=INFINITE State=UP
END
slurmctld
slurmd
for _ in $(seq 60); do
    if [ "$(sinfo -h -o %t 2>/dev/null)" = idle ]; then break; fi
    sleep 1
done
sinfo

cat > "$WORK/recipe.yaml" <<END
model: {name: ssd, backbone: shufflenet_v2_x0_5, image_size: 64, strides: [8],
        anchor_scales: [[0.25]], top_stride: 16}
data: {format: digits, root: $WORK/digits, digits: {train: 80, val: 20}, workers: 0}
train: {epochs: ${EPOCHS:-8}, batch_size: 8, lr: 0.001, eval_every: 1000, save_every_steps: 5}
END
compare() {
    "$PYTHON" "$HERE/tools/compare.py" --config "$WORK/recipe.yaml" --seeds 2 \
        --set "plain: center=null" --set "center: center.weight=0.3" --output "$WORK/runs" \
        --launcher slurm --slurm "time=1:00:00 partition=all cpus=1 comment=detcenter" --jobs 2
}

compare > "$WORK/first.log" 2>&1 &
FIRST=$!
until grep -qs "^epoch 1/" "$WORK"/runs/*/seed_*/log.txt; do sleep 0.5; done
squeue -o "%i %j %T %C %k"
scancel "$(squeue -h -t R -o %i | sort | head -1)"
wait "$FIRST" && STATUS=0 || STATUS=$?
cat "$WORK/first.log"
echo "exit status $STATUS; the same command again:"
RUN=$(dirname "$(ls "$WORK"/runs/*/seed_*/failed.txt)")
compare > "$WORK/second.log" 2>&1 &
SECOND=$!
until grep -qs "^epoch 3/" "$RUN/log.txt"; do sleep 0.5; done
scancel --signal=USR2 "$(squeue -h -t R -o %i)"
wait "$SECOND"
cat "$WORK/second.log"
echo "what its job said:"
grep -h "signal\|Requeued\|completed" "$WORK"/runs/slurm/*/*.out
echo "epochs that were ended in each run, and claims that are left:"
grep -c "^epoch" "$WORK"/runs/*/seed_*/log.txt | sed "s|$WORK/||"
ls "$WORK"/runs/*/seed_*/claim.* 2>/dev/null | wc -l
