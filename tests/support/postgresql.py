"""PostgreSQL on loopback, out of Debian's package `postgresql`."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import free_port, start, stop, unavailable


@dataclass
class PostgreSQL:
    """A server that runs until the block of `serving_postgresql` ends; `folder` is of its socket."""

    folder: Path
    programs: Path
    port: int

    def run(
        self,
        program: str,
        *arguments: str,
        stdin: bytes = b"",
        host: str = "",
        user: str = "postgres",
        password: str = "",
    ) -> bytes:
        """Run one of its programs: by default as the administrator, over the socket, where no password is asked for."""
        where = {"PGHOST": host or str(self.folder), "PGPORT": str(self.port), "PGUSER": user, "PGPASSWORD": password}
        done = subprocess.run(
            [self.programs / program, *arguments],
            env=os.environ | where,
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(self, database: str, user: str, password: str) -> None:
        """Make a user and his database, as the image does at its first start."""
        self.run("psql", "--quiet", "--command", f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        self.run("createdb", f"--owner={user}", database)


@contextlib.contextmanager
def serving_postgresql() -> Iterator[PostgreSQL]:
    """A server until the block ends; skips where it is not installed, but fails in CI."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None:
        unavailable("the test needs PostgreSQL: Debian's package postgresql")
    # It refuses to run as root, and pytest's own folders are open to their owner alone.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        how = ["--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres", "--no-sync"]
        command = [str(programs / "initdb"), "--encoding=UTF8", "--locale=C", *how, f"--pgdata={name}/data"]
        subprocess.run(command, user=user, cwd=folder, capture_output=True, check=True)
        server = PostgreSQL(folder, programs, free_port())
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": name, "fsync": "off"}
        command = [str(programs / "postgres"), "-D", f"{name}/data", "-p", str(server.port)]
        command += [f"--{key}={value}" for key, value in settings.items()]
        ready = [str(programs / "pg_isready"), "-q", "-h", name, "-p", str(server.port)]
        process = start(command, folder / "log", lambda: not subprocess.call(ready), user=user, cwd=folder)
        try:
            yield server
        finally:
            stop(process)
