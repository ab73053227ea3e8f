"""Where the test cluster is, as common.sh says it to the scripts."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flywheel"
CACHE = Path(os.environ.get("FLYWHEEL_CLUSTER") or _CACHE / "cluster")
BIN = CACHE / "bin"
KUBECONFIG = CACHE / "kubeconfig"
REGISTRY = "172.30.0.1:5000"
INGRESS = "172.30.0.1"
FORGE = "git.flywheel.test"
FORGE_IP = "172.30.0.2"
