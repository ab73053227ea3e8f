"""Alerts, by Prometheus' own tool: every rule is one that it takes, and those of the services fire when they should."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.monitoring import Metrics
from tests.support.gitops import leaves, variants
from tests.support.processes import program


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    """Every group of every leaf, once."""
    rules = [obj for leaf in (*leaves(), *variants()) for obj in leaf.of_kind("PrometheusRule")]
    found = {group["name"]: group for rule in rules for group in rule["spec"]["groups"]}
    return list(found.values())


def test_fire_when_they_should(groups: list[dict[str, Any]], project: Path, tmp_path: Path) -> None:
    promtool = program("promtool", "it comes with Debian's package prometheus, and with Prometheus itself")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    shutil.copy(project / "tests/contract/alerts.yaml", tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_of_metrics_that_the_server_has_when_read(groups: list[dict[str, Any]], project: Path) -> None:
    served = set(re.findall(r"^# TYPE (flywheel_\w+) ", Metrics().text().decode(), re.M))
    dashboard = (project / "gitops/serving/dashboard/model-servers.json").read_text()
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    asked = set(re.findall(r"(?<![\w:])flywheel_\w+(?!:)\b", dashboard + "\n".join(rule["expr"] for rule in rules)))
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert len(names) > 10
    assert names - served == set()
    # What is recorded is used, and the other way round.
    used = set(re.findall(r"\b\w+:\w+:\w+\b", "\n".join(rule["expr"] for rule in rules)))
    assert used == recorded
