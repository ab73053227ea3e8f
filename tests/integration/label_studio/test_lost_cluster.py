"""A cluster that is lost, and brought back from the second store by what the CronJobs of component `backup` run.

Real MinIOs, PostgreSQL and Label Studio, with the environment that the cluster gives them; docs/backups.md is the page.
"""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.store import Store
from runner.store.init import init_store
from runner.store.verify import verify_store
from runner.workspace import writing
from tests.integration.test_store_backup import HALF, content, fill
from tests.integration.test_store_verify import CONTENT, OBJECTS, sha256
from tests.support import gitops
from tests.support.label_studio import HOME, PROGRAM, LabelStudio, migrate, plain_environment, version
from tests.support.pods import command_of, container_of, environment_of
from tests.support.postgresql import PostgreSQL, serving_postgresql
from tests.support.processes import unavailable
from tests.support.s3 import Use, serving_s3
from tests.support.trees import read_tree, write_tree

pytestmark = pytest.mark.slow
PAGE = (gitops.PROJECT / "docs/backups.md").read_text(encoding="utf-8")
ADMINISTRATOR, ANNOTATOR = "admin@flywheel.internal", "annotator@example.com"
VIEW = "<View><Image name='image' value='$image'/></View>"


class Installation:
    """Label Studio with its database, of one set of Secrets, before or after the loss."""

    def __init__(self, folder: Path, postgresql: PostgreSQL, second: dict[str, str]) -> None:
        self.folder, self.postgresql = folder, postgresql
        (leaf,) = (each for each in gitops.variants() if each.path == "label-studio/overlays/kubernetes, backup")
        self.objects = leaf.objects
        keys = {key: secrets.token_hex(20) for key in ("password", "token", "secret-key")}
        backup = {f"BACKUP_{name}": value for name, value in second.items()}
        password = {"password": secrets.token_hex(20)}
        self.secrets = {"label-studio": keys, "label-studio-postgresql": password, "backup": backup}
        made = self.environment("StatefulSet", "label-studio-postgresql")
        role = "DROP DATABASE IF EXISTS {0}", "DROP ROLE IF EXISTS {1}", "CREATE ROLE {1} LOGIN PASSWORD '{2}'"
        names = [made[f"POSTGRESQL_{key}"] for key in ("DATABASE", "USER", "PASSWORD")]
        for line in (*role, "CREATE DATABASE {0} OWNER {1}"):
            postgresql.run("psql", "--quiet", "--command", line.format(*names))
        self.fill_tables()
        self.server = self.label_studio()

    def environment(self, kind: str, name: str, container: str = "") -> dict[str, str]:
        found = environment_of(
            container_of(kind, name, self.objects, container), self.objects, self.secrets, self.folder
        )
        here = {"POSTGRE_HOST": "127.0.0.1", "PGHOST": "127.0.0.1"}
        return (
            found | {key: value for key, value in here.items() if key in found} | {"PGPORT": str(self.postgresql.port)}
        )

    def fill_tables(self) -> None:
        """Make the tables of a fresh installation; once, since it takes 40 s and more, and then by the page's lines."""
        empty = HOME / f"{version()}.dump"
        if empty.exists():
            self.postgresql.run("pg_restore", *by_hand("pg_restore"), stdin=empty.read_bytes())
        else:
            migrate(self.settings)
            with writing(empty) as part:
                part.write_bytes(self.postgresql.run("pg_dump", *by_hand("pg_dump")))

    @property
    def settings(self) -> dict[str, str]:
        here = {"POSTGRE_PORT": str(self.postgresql.port), "SESSION_COOKIE_SECURE": "0"}  # no TLS
        return self.environment("Deployment", "label-studio") | here

    def label_studio(self) -> LabelStudio:
        keys = self.secrets["label-studio"]
        (self.folder / "server").mkdir()
        return LabelStudio(
            self.folder / "server", token=keys["token"], password=keys["password"], settings=self.settings
        )

    def run(self, name: str, *containers: str) -> None:
        """Run containers of a CronJob, one after another, but for the clone."""
        for each in containers:
            command = command_of(container_of("CronJob", name, self.objects, each), self.folder)
            command = [sys.executable if word == "python" else word for word in command]
            own = self.environment("CronJob", name, each) | {"PYTHONPATH": str(gitops.PROJECT)}
            path = f"{self.postgresql.programs}:{os.environ['PATH']}"
            settings = plain_environment() | own | {"PATH": path}
            done = subprocess.run(command, env=settings, cwd=self.folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{name}/{each}: {done.stdout}{done.stderr}"


def by_hand(program: str) -> list[str]:
    """Return the arguments that docs/backups.md gives a program."""
    found = re.search(rf"exec .*-- {program} ([^<>]+) [<>]", PAGE)
    assert found, program
    return shlex.split(found[1])


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    if not PROGRAM.exists():
        unavailable("the test needs Label Studio: `make label-studio`")
    with serving_postgresql() as server:
        yield server


def signs_in(server: LabelStudio, email: str, password: str) -> bool:
    with httpx.Client(base_url=server.url, timeout=60, headers={"Referer": f"{server.url}/user/login/"}) as browser:
        browser.get("/user/login/").raise_for_status()
        form = {"email": email, "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        return browser.post("/user/login/", data=form).status_code == 302


def seen(server: LabelStudio) -> dict[str, Any]:
    """What annotators would miss."""
    projects = server.ask("GET", "/api/projects")["results"]
    return {each["title"]: [each["task_number"], each["total_annotations_number"]] for each in projects}


def run_store(name: str, store: dict[str, str], secrets_: dict[str, dict[str, str]], folder: Path) -> None:
    """Run a CronJob of the store, after its clone; the store is where the test has it."""
    (leaf,) = (each for each in gitops.variants() if each.path == "minio/overlays/kubernetes, backup")
    container = container_of("CronJob", name, leaf.objects)
    here = {key: store[key] for key in ("STORE_URI", "AWS_ENDPOINT_URL")} | {"CA_BUNDLE": "", "AWS_CA_BUNDLE": ""}
    own = environment_of(container, leaf.objects, secrets_, folder) | here | {"PYTHONPATH": str(gitops.PROJECT)}
    command = [sys.executable, "-m", "runner", *container["args"]]
    done = subprocess.run(command, env=plain_environment() | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a folder to somebody else")
def test_uploads_come_back_into_a_volume_that_is_somebody_elses(tmp_path: Path) -> None:
    """As in a pod, whose user may write into the folder of a volume, and not change its mode."""
    (leaf,) = (each for each in gitops.variants() if each.path == "label-studio/overlays/kubernetes, backup")
    saved = write_tree(tmp_path / "before", {"media/upload/1/a.jpg": b"a", ".hidden": b"b"})
    (tmp_path / "files").mkdir()
    archive = ["tar", "--create", f"--file={tmp_path / 'files/uploads.tar'}", f"--directory={saved}", "."]
    subprocess.run(archive, check=True)
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 65534, 65534)
    command = command_of(container_of("CronJob", "restore", leaf.objects, "uploads"), tmp_path)
    done = subprocess.run(["setpriv", "--bounding-set=-fowner", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_tree(tmp_path / "data") == read_tree(saved)


def test_all_is_as_before_when_a_cluster_was_lost(
    postgresql: PostgreSQL, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_WORK", str(tmp_path / "work"))
    with serving_s3("minio", tmp_path / "one") as one, serving_s3("minio", tmp_path / "two") as two:
        second = two.environment("kept")
        writer = {"AWS_ACCESS_KEY_ID": "backup-writer", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
        users = write_tree(tmp_path / "users", {f"backup-writer/{name}": value for name, value in writer.items()})
        monkeypatch.setenv("STORE_USERS", str(users))
        use(second)
        init_store(tmp_path)
        second |= writer

        reader = {"AWS_ACCESS_KEY_ID": "backup", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
        write_tree(users, {f"backup/{name}": value for name, value in reader.items()})
        store: Store = use(one.environment("planes"))
        init_store(tmp_path)
        fill(store, OBJECTS | HALF)
        before = Installation(tmp_path / "before", postgresql, second)
        try:
            server = before.server.start()
            project = server.ask("POST", "/api/projects", json={"title": "planes", "label_config": VIEW})["id"]
            tasks = [{"data": {"image": f"/data/upload/{number}.jpg"}} for number in range(5)]
            server.ask("POST", f"/api/projects/{project}/import", json=tasks)
            person = server.join(ANNOTATOR)
            for task in server.ask("GET", f"/api/tasks/?project={project}")["tasks"][:3]:
                server.ask("POST", f"/api/tasks/{task['id']}/annotations/", token=person, json={"result": []})
            noted = seen(server)
        finally:
            before.server.stop()
        assert noted == {"planes": [5, 3]}
        write_tree(before.folder / "data/media/upload/1", {"a picture ü.jpg": b"uploaded"})

        before.run("backup", "dump", "uploads", "backup")
        store_secrets = {"store-user-backup": reader, "backup": before.secrets["backup"]}
        run_store("backup", one.environment("planes"), store_secrets, tmp_path / "pod")
        # The cluster goes, with its volumes and Secrets.
        one.stop(kill=True)
        shutil.rmtree(one.data)
        uploads = read_tree(before.folder / "data/media")
        shutil.rmtree(before.folder)
        one.password = secrets.token_hex(16)
        one.start()
        store = use(one.environment("planes"))
        init_store(tmp_path)
        after = Installation(tmp_path / "after", postgresql, second)

        store_secrets["minio-root"] = {"user": one.user, "password": one.password}
        run_store("restore", one.environment("planes"), store_secrets, tmp_path / "pod")
        after.run("restore", "fetch", "uploads", "load")
        assert content(store) == OBJECTS | HALF
        assert sha256(store.read("models/planes/1/manifest.json")) == sha256(CONTENT)  # what a pin names
        assert verify_store(store)[1]
        assert read_tree(after.folder / "data/media") == uploads
        old, new = (each.secrets["label-studio"] for each in (before, after))
        try:
            server = after.server.start()
            assert seen(server) == noted  # with the token of the new Secret
            assert server.ask("GET", "/api/current-user/whoami", token=person)["email"] == ANNOTATOR
            assert signs_in(server, ADMINISTRATOR, old["password"])
            (line,) = re.findall(r"exec deployment/label-studio -- sh -c '(label-studio reset_password .*)'", PAGE)
            settings = plain_environment() | after.settings | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
            subprocess.run(["sh", "-c", line], env=settings, check=True, capture_output=True)
            assert signs_in(server, ADMINISTRATOR, new["password"])
        finally:
            after.server.stop()
