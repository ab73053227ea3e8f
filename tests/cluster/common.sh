# shellcheck shell=bash disable=SC2034  # the scripts beside it use what it sets
# Where everything of the test cluster is, and how its daemons start and stop.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CLUSTER=${FLYWHEEL_CLUSTER:-${XDG_CACHE_HOME:-$HOME/.cache}/flywheel/cluster}  # no path in it may hold a space
BIN=$CLUSTER/bin MANIFESTS=$CLUSTER/manifests REGISTRY=$CLUSTER/registry
STATE=$CLUSTER/state LOG=$CLUSTER/log RUN=/run/flywheel-cluster  # STATE goes with the cluster; what was built stays
PKI=$STATE/pki ETC=$STATE/etc
NODE_NAME=node BRIDGE=flywheel0
NODE_IP=172.30.0.1 FORGE_IP=172.30.0.2 FORGE=git.flywheel.test
PODS=10.244.0.0/16 POD_CIDR=10.244.0.0/24 SERVICES=10.96.0.0/16 API_IP=10.96.0.1 DNS_IP=10.96.0.10
API=https://$NODE_IP:6443 REGISTRY_HOST=$NODE_IP:5000
export KUBECONFIG=$CLUSTER/kubeconfig PATH=$BIN:/usr/sbin:/sbin:$PATH
export CONTAINERD_ADDRESS=$RUN/containerd.sock CONTAINERD_NAMESPACE=k8s.io

say() { printf '%s %s\n' "$(date +%T)" "$*"; }

require_root() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "error: the cluster needs root on a Debian-like machine: it makes a bridge, mounts and containers" >&2
    exit 1
  fi
}

# alive NAME: the recorded process runs, and is the one that was started (same start time: a pid may be given anew).
alive() {
  local pid begun
  [ -f "$RUN/$1.pid" ] || return 1
  read -r pid begun < "$RUN/$1.pid" || true
  [ -n "$pid" ] && [ -r "/proc/$pid/stat" ] && [ "$(awk '$3 != "Z" {print $22}' "/proc/$pid/stat")" = "$begun" ]
}

# daemon NAME COMMAND...: starts it in the background, once.
daemon() {
  local name=$1 pid; shift
  if alive "$name"; then return 0; fi
  setsid "$@" >> "$LOG/$name.log" 2>&1 < /dev/null &
  pid=$!
  printf '%s %s\n' "$pid" "$(awk '{print $22}' "/proc/$pid/stat")" > "$RUN/$name.pid"
  say "started $name ($pid)"
}

# stop NAME [SIGNAL]: ends it, by force after 15 seconds.
stop() {
  local pid
  if ! alive "$1"; then rm -f "$RUN/$1.pid"; return 0; fi
  read -r pid _ < "$RUN/$1.pid"
  kill "-${2:-TERM}" "$pid"
  for _ in $(seq 60); do alive "$1" || break; sleep 0.25; done
  if alive "$1"; then kill -KILL "$pid"; sleep 0.5; fi
  rm -f "$RUN/$1.pid"
  say "stopped $1 ($pid)"
}

# until_true SECONDS WHAT COMMAND...
until_true() {
  local limit=$(($(date +%s) + $1)) what=$2; shift 2
  until "$@" > /dev/null 2>&1; do
    if [ "$(date +%s)" -ge "$limit" ]; then say "in vain waited for: $what"; return 1; fi
    sleep 0.3
  done
  say "$what"
}

# python_module NAME ARGUMENT...: runs tests.cluster.NAME in the project's environment, which `make setup` makes.
python_module() {
  local name=$1; shift
  (cd "$HERE/../.." && .venv/bin/python -m "tests.cluster.$name" "$@")
}
