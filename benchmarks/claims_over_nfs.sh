#!/usr/bin/env bash
# Claims (detcenter/runs/claims.py) over NFS: three guests in QEMU, one that serves a folder by the
# kernel's NFS server and two that mount it and fight for its claims.
#
#     apt-get install -y qemu-system-x86 linux-image-cloud-amd64 nfs-kernel-server busybox-static
#     [PYTHON=.venv/bin/python] [KERNEL=FOLDER] [ACCEL=kvm] benchmarks/claims_over_nfs.sh [3 4.0 4.2]
#
# (Debian's names.) For each version of NFS it prints counts; claims_over_nfs.py says of what. The exit
# status is 1 if something is not as it has to be. It takes four minutes a version, 1.5 GB of memory,
# and no rights. The kernel is the newest below /boot, or the one of a package that is unpacked in
# KERNEL; this machine need not run it. ACCEL=kvm is for machines with /dev/kvm. Nothing is left
# running, and no file is written outside a temporary folder; the guests reach nothing but each other.
set -euo pipefail

PYTHON=${PYTHON:-python3}
KERNEL=${KERNEL:-}
HERE=$(cd "$(dirname "$0")/.." && pwd)
WORK=$(mktemp -d)
export PATH="$PATH:/usr/sbin:/sbin"

stop() {
    for name in server first second judge; do
        pid=$(cat "$WORK/$name.pid" 2>/dev/null || true)
        # It may have ended long ago, and the number be another's.
        if grep -qsa "$WORK" "/proc/${pid:-0}/cmdline"; then kill -9 "$pid" 2>/dev/null || true; fi
    done
}
trap 'stop; rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

missing() {
    echo "claims_over_nfs.sh: $1" >&2
    exit 1
}
TOOLS=(rpcbind rpc.mountd rpc.nfsd exportfs mount.nfs)
for tool in qemu-system-x86_64 busybox mkfs.ext4 ldd "$PYTHON" "${TOOLS[@]}"; do
    command -v "$tool" > /dev/null || missing "there is no $tool; its first lines say what to install"
done
image=$(ls "$KERNEL"/boot/vmlinuz-* 2>/dev/null | sort -V | tail -n 1 || true)
[ -n "$image" ] || missing "there is no kernel in $KERNEL/boot; install one, or set KERNEL"
version=${image##*/vmlinuz-}
modules=lib/modules/$version
[ -d "$KERNEL/$modules/kernel/fs/nfsd" ] || missing "$image has no modules for NFS"

# The guests' root, in memory: busybox, Python, what serves and mounts NFS, and the kernel's modules.
root=$WORK/root
mkdir -p "$root"/{bin,dev,etc,proc,sys,run/rpcbind,tmp,export,shared,var/lib/nfs/v4recovery}
take() {
    cp -L --parents "$@" "$root"
    ldd "$@" 2>/dev/null | grep -o '/[^ :)]*\.so[^ :)]*' | sort -u |
        xargs -r cp -L --parents -t "$root" || true
}
cp "$(command -v busybox)" "$root/bin/busybox"
for tool in "${TOOLS[@]}"; do take "$(command -v "$tool")"; done
for file in passwd group nsswitch.conf netconfig services protocols rpc; do
    if [ -e "/etc/$file" ]; then cp -L "/etc/$file" "$root/etc"; fi
done
read -r python library < <("$PYTHON" -c 'import os, sys, sysconfig
library = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_prefix})
print(os.path.realpath(sys.executable), library)')
take "$python" "$library"/lib-dynload/*.so
(cd "$library" && find . -name '*.py' -not -path './site-packages/*' -not -path './dist-packages/*' \
    -not -path '*/test*' -exec cp --parents -t "$root$library" {} +)
mkdir -p "$WORK/code/detcenter/runs" # claims.py, without all that the package imports
touch "$WORK"/code/detcenter/{,runs/}__init__.py
cp "$HERE/detcenter/runs/claims.py" "$WORK/code/detcenter/runs"
cp "$HERE/benchmarks/claims_over_nfs.py" "$WORK/code"
cp -r "$WORK/code" "$root"
(cd "$KERNEL/" && cp -r --parents -t "$root" "$modules"/modules.{builtin,order} \
    "$modules"/kernel/{crypto,lib,fs/{nfs,lockd,fscache,netfs},net/{core,sunrpc,dns_resolver}}* \
    "$modules"/kernel/drivers/{virtio,block/virtio_blk.*,net/{virtio_net,net_failover}.*})
busybox depmod -b "$root" "$version"

cat > "$root/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin:/sbin:/usr/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
exec > /dev/console 2>&1
for word in \$(cat /proc/cmdline); do case \$word in role=*|nfs=*) eval "\$word";; esac; done
hostname \$role
for module in virtio_pci virtio_net virtio_blk nfs nfsv3 nfsv4 nfsd; do modprobe \$module; done
ifconfig lo 127.0.0.1
if [ \$role = server ]; then
    ifconfig eth0 10.0.1.1 netmask 255.255.255.0
    ifconfig eth1 10.0.2.1 netmask 255.255.255.0
    mount -t ext4 /dev/vda /export
    mount -t nfsd nfsd /proc/fs/nfsd
    echo 10 > /proc/fs/nfsd/nfsv4gracetime  # which a new server waits for clients of an old one
    touch /etc/exports /var/lib/nfs/etab; rpcbind -w
    exportfs -o rw,sync,no_root_squash,no_subtree_check '*:/export'
    rpc.mountd
    rpc.nfsd 8
    echo serving
    while sleep 1000; do :; done
fi
[ \$role = first ] && net=10.0.1 || net=10.0.2
ifconfig eth0 \$net.2 netmask 255.255.255.0
lock=; [ \$nfs = 3 ] && lock=,nolock  # or it wants statd; claims lock nothing
until mount.nfs \$net.1:/export /shared -o vers=\$nfs\$lock; do sleep 1; done
mount | grep shared
exec $python -B /code/claims_over_nfs.py guest /dev/ttyS1 /shared
END
chmod +x "$root/init"
(cd "$root" && find . | busybox cpio -o -H newc > "$WORK/initrd" 2>/dev/null)
rm -rf "$root"

start() { # a guest, and what else it has
    guest=$1
    shift
    qemu-system-x86_64 -name "$guest" -accel "${ACCEL:-tcg}" -cpu max -m 448 -nodefaults -no-reboot \
        -display none -kernel "$image" -initrd "$WORK/initrd" \
        -append "console=ttyS0 quiet panic=-1 role=$guest nfs=$nfs" -serial "file:$WORK/$guest.log" \
        "$@" &
    echo $! > "$WORK/$guest.pid"
    disown
}
wire() { # one end of the wire to a guest: its name, whether this end is the server's, a number
    echo "-netdev stream,id=$1,server=$2,addr.type=unix,addr.path=$WORK/$1.wire" \
        "-device virtio-net-pci,netdev=$1,mac=52:54:00:00:00:0$3"
}

status=0
[ $# -gt 0 ] || set -- 3 4.0 4.2
for nfs in "$@"; do
    rm -f "$WORK"/*.{wire,talk,log,pid} "$WORK/disk"
    truncate -s 64M "$WORK/disk"
    mkfs.ext4 -q "$WORK/disk"
    # shellcheck disable=SC2046 # lists of words
    start server -drive "file=$WORK/disk,format=raw,if=virtio,cache=unsafe" \
        $(wire first on 1) $(wire second on 2)
    until [ -S "$WORK/first.wire" ] && [ -S "$WORK/second.wire" ]; do sleep 0.2; done
    # shellcheck disable=SC2046
    start first -serial "unix:$WORK/first.talk,server=on,wait=off" $(wire first off 3)
    # shellcheck disable=SC2046
    start second -serial "unix:$WORK/second.talk,server=on,wait=off" $(wire second off 4)
    echo "NFS $nfs, Linux $version on both sides:"
    "$PYTHON" -B "$WORK/code/claims_over_nfs.py" judge "$WORK" & # so that signals are heeded at once
    echo $! > "$WORK/judge.pid"
    if ! wait $!; then
        status=1
        tail -n 5 "$WORK"/*.log
    fi
    stop
done
exit $status
