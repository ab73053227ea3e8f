"""Label Studio on PostgreSQL, with the environment that the cluster gives it; the backup by hand of docs/backups.md."""

import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.workspace import writing
from tests.support import gitops
from tests.support.label_studio import HOME, PROGRAM, LabelStudio, migrate, version
from tests.support.postgresql import PostgreSQL, next_major, serving_postgresql
from tests.support.processes import unavailable

pytestmark = pytest.mark.slow
PAGE = (gitops.PROJECT / "docs/backups.md").read_text(encoding="utf-8")
UPGRADES = (gitops.PROJECT / "docs/upgrades.md").read_text(encoding="utf-8")


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    if not PROGRAM.exists():
        unavailable("the test needs Label Studio: `make label-studio`")
    with serving_postgresql() as server:
        yield server


def environment_of(
    kind: str, name: str, objects: list[gitops.Manifest], own: dict[str, dict[str, str]], folder: Path
) -> dict[str, str]:
    """Return the environment of a workload's container as a kubelet makes it, with volumes in a folder.

    `own` are the data of Secrets by name.
    """
    maps = {obj["metadata"]["name"]: obj.get("data", {}) for obj in objects if obj["kind"] == "ConfigMap"}
    (owner,) = (obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name))
    (container,) = owner["spec"]["template"]["spec"]["containers"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]
    for entry in container["env"]:
        match entry:
            case {"value": value}:
                found[entry["name"]] = value
            case {"valueFrom": {"secretKeyRef": reference}}:
                found[entry["name"]] = own[reference["name"]][reference["key"]]
            case {"valueFrom": {"configMapKeyRef": reference}}:
                found[entry["name"]] = maps[reference["name"]][reference["key"]]
    for variable, text in found.items():
        found[variable] = re.sub(r"\$\((\w+)\)", lambda other: found[other[1]], text)
        for mount in container["volumeMounts"]:
            if f"{text}/".startswith(f"{mount['mountPath']}/"):
                (folder / mount["name"]).mkdir(parents=True, exist_ok=True)
                found[variable] = f"{folder / mount['name']}{text.removeprefix(mount['mountPath'])}"
    return found


def shown(program: str) -> list[str]:
    """Return the arguments that docs/backups.md gives a program."""
    found = re.search(rf"exec .*-- {program} ([^<>]+) [<>]", PAGE)
    assert found, program
    return shlex.split(found[1])


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_an_upgrade_dumps_and_restores_as_the_backup_does(program: str) -> None:
    assert f"-- {program} {shlex.join(shown(program))} " in UPGRADES


def make_database(server: PostgreSQL, made: dict[str, str]) -> None:
    """Make role and database as the image does at its first start."""
    server.run("psql", "--quiet", "--command", "CREATE ROLE {user} LOGIN PASSWORD '{password}'".format(**made))
    server.run("createdb", f"--owner={made['user']}", made["database"])


def major(server: PostgreSQL) -> int:
    return int(server.run("psql", "--tuples-only", "--command", "SHOW server_version_num")) // 10_000


def led_over(before: PostgreSQL, dump: bytes, made: dict[str, str], server: LabelStudio) -> None:
    """Lead a stopped Label Studio over to the next major by the lines of docs/upgrades.md."""
    counts = re.search(r"<<< '(SELECT .+)'", UPGRADES)
    assert counts
    asked = ("--tuples-only", "--no-align", "--command", counts[1], made["database"])
    with next_major() as after:
        make_database(after, made)
        after.run("pg_restore", *shown("pg_restore"), stdin=dump)
        assert major(before) < major(after)
        assert after.run("psql", *asked) == before.run("psql", *asked)
        server.settings |= {"POSTGRE_PORT": str(after.port)}
        try:
            server.start()
            assert [each["title"] for each in server.ask("GET", "/api/projects")["results"]] == ["kept"]
            server.ask("POST", "/api/projects", json={"title": "new", "label_config": "<View/>"})
        finally:
            server.stop()


def test_token_works_and_backup_comes_back_also_on_the_next_major(postgresql: PostgreSQL, tmp_path: Path) -> None:
    objects = gitops.leaf("label-studio/overlays/openshift").objects
    keys = {key: secrets.token_hex(20) for key in ("password", "token", "secret-key")}
    own = {"label-studio": keys, "label-studio-postgresql": {"password": secrets.token_hex(20)}}
    its = environment_of("StatefulSet", "label-studio-postgresql", objects, own, tmp_path / "postgresql")
    made = {key: its[f"POSTGRESQL_{key.upper()}"] for key in ("database", "user", "password")}
    make_database(postgresql, made)
    settings = environment_of("Deployment", "label-studio", objects, own, tmp_path / "pod")
    settings |= {"POSTGRE_HOST": "127.0.0.1", "POSTGRE_PORT": str(postgresql.port)}
    empty = HOME / f"{version()}.dump"  # its tables take 40 s and more to make
    if not empty.exists():
        migrate(settings)
        with writing(empty) as part:
            part.write_bytes(postgresql.run("pg_dump", *shown("pg_dump")))
    else:
        postgresql.run("pg_restore", *shown("pg_restore"), stdin=empty.read_bytes())

    (tmp_path / "server").mkdir()
    server = LabelStudio(tmp_path / "server", token=keys["token"], password=keys["password"], settings=settings)
    try:
        server.start()
        assert server.ask("GET", "/api/current-user/whoami")["email"] == "admin@flywheel.internal"
        server.ask("POST", "/api/projects", json={"title": "kept", "label_config": "<View/>"})
    finally:
        server.stop()
    backup = postgresql.run("pg_dump", *shown("pg_dump"))
    led_over(postgresql, backup, made, server)
    postgresql.run("dropdb", made["database"])
    postgresql.run("createdb", f"--owner={made['user']}", made["database"])
    postgresql.run("pg_restore", *shown("pg_restore"), stdin=backup)
    asked = ("--tuples-only", "--no-align", "--command", "SELECT title FROM project", made["database"])
    its_user, its_password = made["user"], made["password"]
    kept = postgresql.run("psql", *asked, PGHOST="127.0.0.1", PGUSER=its_user, PGPASSWORD=its_password)
    assert kept.split() == [b"kept"]
