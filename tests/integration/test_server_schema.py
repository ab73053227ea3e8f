"""Requests that schemathesis makes up from the OpenAPI page, right and wrong ones: no answer is a failure of ours."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.servers import Server

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_500_when_requests_are_made_up(server: Server, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    command = [
        *(str(program), "run", f"http://127.0.0.1:{server.port}/openapi.json"),
        *("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.get("/readyz").status == 200
    assert not [line for line in server.lines() if line["level"] == "ERROR"]
