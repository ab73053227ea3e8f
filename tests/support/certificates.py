import subprocess
from collections.abc import Sequence
from pathlib import Path


def certificate(folder: Path, *names: str, more: Sequence[str] = ()) -> tuple[Path, Path]:
    """Make a certificate that signs itself, with more extensions; return the paths of it and of its key."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "tls.crt", folder / "tls.key"
    alternatives = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names)
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=test", "-addext", f"subjectAltName={alternatives}"]
    name += [word for extension in more for word in ("-addext", extension)]
    subprocess.run(
        ["openssl", "req", *kind, *name, "-out", paths[0], "-keyout", paths[1]], capture_output=True, check=True
    )
    return paths
