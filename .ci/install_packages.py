"""Install what an image runs, and list it: python3 install_packages.py IMAGE ENVIRONMENT EXTRA… [-- OPTION OF uv…].

Run while an image is built, in the folder with pyproject.toml, constraints-hashes.txt and constraints-uv.txt. Each
package comes from a file whose digest constraints-hashes.txt has. ENVIRONMENT/bom.json is the bill of materials
(CycloneDX) of Python's packages and Debian's. RUNTIME=onnxruntime-gpu installs that in the place of onnxruntime.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

HASHES = Path("constraints-hashes.txt")
CERTIFICATES = "--system-certs"  # those of the system: a company may have added its own


def main(image: str, environment: Path, arguments: Sequence[str]) -> None:
    """Install the extras of pyproject.toml into a new environment, and write its bill."""
    extras, _, options = " ".join(arguments).partition(" -- ")
    with tempfile.TemporaryDirectory() as name:
        tools = Path(name)
        venv.create(tools / "uv", with_pip=True)
        pip = ("-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check")
        run(tools / "uv/bin/python", *pip, "--require-hashes", "--requirement", "constraints-uv.txt")
        uv = tools / "uv/bin/uv"
        chosen = [word for extra in extras.split() for word in ("--extra", extra)]
        install(uv, environment, "pyproject.toml", *chosen, options=options.split())
        (tools / "bill.txt").write_text("cyclonedx-bom\n")
        install(uv, tools / "bill", tools / "bill.txt")
        listing = (tools / "bill/bin/cyclonedx-py", "environment", "--output-reproducible", environment / "bin/python")
        bill = json.loads(subprocess.run(listing, check=True, capture_output=True).stdout)
    bill["metadata"]["component"] = {"type": "container", "bom-ref": image, "name": image}
    bill["components"] += debian_packages()
    (environment / "bom.json").write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")


def install(uv: Path, environment: Path, wanted: str | Path, *chosen: str, options: Sequence[str] = ()) -> None:
    """Install into an environment: find the versions for its Python, then take each by its digest."""
    run(uv, "venv", "--quiet", "--allow-existing", environment)
    python, packages = ("--python", environment / "bin/python"), environment / "packages.txt"
    common = ("--quiet", "--no-cache", CERTIFICATES, *python, "--constraint", HASHES)
    run(uv, "pip", "compile", *common, "--no-header", "--no-annotate", "--output-file", packages, wanted, *chosen)
    runtime = os.environ.get("RUNTIME", "onnxruntime")
    (version,) = re.findall(rf"^{re.escape(runtime)}==[^ ;\\]+", HASHES.read_text(encoding="utf-8"), re.MULTILINE)
    packages.write_text(re.sub(r"^onnxruntime==.*", version, packages.read_text(encoding="utf-8"), flags=re.MULTILINE))
    run(uv, "pip", "install", *common, "--no-deps", "--require-hashes", "--requirement", packages, *options)


def run(*command: str | Path) -> None:
    """Run a command; exit with its status, its own message on stderr, when it fails."""
    if status := subprocess.run(command, check=False).returncode:
        sys.exit(status)


def debian_packages() -> Iterator[dict[str, str]]:
    """Yield Debian's packages of this image as components; none where it is no Debian."""
    if not shutil.which("dpkg-query"):
        return
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    release = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    distribution, number = release.get("ID", "debian"), release.get("VERSION_ID", "")
    command = ("dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n")
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        name, version, architecture = line.split()
        purl = f"pkg:deb/{distribution}/{quote(name, safe='')}@{quote(version, safe='')}"
        purl += f"?arch={architecture}&distro={distribution}-{number}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
