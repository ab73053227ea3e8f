import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


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


def make_key(folder: Path, name: str) -> bytes:
    """Write a private key that signs models to NAME.pem; return its public half."""
    key = ec.generate_private_key(ec.SECP256R1())
    written = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(key.private_bytes(*written))
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
