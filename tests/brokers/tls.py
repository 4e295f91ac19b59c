"""One throw-away authority, one server certificate for 127.0.0.1 and one for a client, for every broker that speaks TLS."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.missing import Missing

AUTHORITY = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
SIGNED = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
CLIENT = "extendedKeyUsage=clientAuth\n"
NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True)
class Certificates:
    ca: Path
    server_chain: Path  # key and certificate in one PEM, as Java wants them
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Write them to `folder`; those of an earlier start are kept, so that a restarted broker is still trusted."""
    names = ("ca.pem", "server-chain.pem", "server.pem", "server.key", "client.pem", "client.key")
    made = Certificates(*(folder / name for name in names))
    if made.server_chain.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    to_ca = ("-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test-ca")
    _openssl(folder, "req", "-x509", *NEW_KEY, *to_ca, *AUTHORITY)
    _sign(folder, "server", "localhost", SERVER)
    _sign(folder, "client", "app", CLIENT)
    made.server_chain.write_bytes(made.server_key.read_bytes() + made.server_cert.read_bytes())
    return made


def _sign(folder: Path, name: str, subject: str, extensions: str) -> None:
    folder.joinpath("extensions").write_text(extensions)
    _openssl(folder, "req", *NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *SIGNED, "-extfile", "extensions")


def _openssl(folder: Path, *arguments: str) -> None:
    if shutil.which("openssl") is None:
        raise Missing("TLS: there is no openssl to make test certificates; install openssl")
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
