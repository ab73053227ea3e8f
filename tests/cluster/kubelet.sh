#!/bin/sh
# kubelet.sh TIMES COMMAND...   runs the kubelet so that it counts this machine's cores TIMES times: as so many NUMA nodes with the
# same cores. Requests that add up to more than the machine has are scheduled all the same; nothing gets faster by it. Only its
# own sysfs says so: the mounts are in a namespace of its own, where / stays shared, so that volumes still reach containerd.
set -eu
times=$1
shift
[ "$times" -gt 1 ] || exec "$@"
export times
# shellcheck disable=SC2016  # the inner shell expands it
exec unshare --mount --propagation unchanged sh -euc '
  mount --make-private /sys
  mount -t tmpfs cores /sys/devices/system/node
  i=0
  while [ $i -lt $times ]; do
    mkdir -p /sys/devices/system/node/node$i/hugepages
    for core in /sys/devices/system/cpu/cpu[0-9]*; do ln -s "$core" /sys/devices/system/node/node$i/; done
    i=$((i + 1))
  done
  exec "$@"' kubelet "$@"
