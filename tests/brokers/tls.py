"""One throw-away authority and one server certificate for 127.0.0.1, for every broker that speaks TLS."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.missing import Missing

EXTENSIONS = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True)
class Certificates:
    ca: Path
    server_chain: Path  # key and certificate in one PEM, as Java wants them


def make_certificates(folder: Path) -> Certificates:
    """Write them to `folder`; those of an earlier start are kept, so that a restarted broker is still trusted."""
    made = Certificates(ca=folder / "ca.pem", server_chain=folder / "server-chain.pem")
    if made.server_chain.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("extensions").write_text(EXTENSIONS)
    authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    to_ca = ("-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test-ca")
    _openssl(folder, "req", "-x509", *NEW_KEY, *to_ca, *authority)
    _openssl(folder, "req", *NEW_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "extensions")
    _openssl(folder, "x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed_by)
    made.server_chain.write_bytes((folder / "server.key").read_bytes() + (folder / "server.pem").read_bytes())
    return made


def _openssl(folder: Path, *arguments: str) -> None:
    if shutil.which("openssl") is None:
        raise Missing("TLS: there is no openssl to make test certificates; install openssl")
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
