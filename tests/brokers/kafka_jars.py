"""Apache Kafka without an installer: no distribution packages it, but Maven Central has all its jars.

They are fetched once per user. Test processes that run side by side wait for one download, and a folder that is
there is complete, because it gets its name last.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.brokers.missing import Missing

VERSION = "4.1.0"
JAVA = 17  # the oldest that this broker runs on
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>investbus</groupId><artifactId>kafka-lab</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


def java() -> str:
    """The path of a Java that can run the broker."""
    if sys.platform != "linux":
        raise Missing("Kafka: a private broker needs Linux")
    path = shutil.which("java")
    if path is None:
        raise Missing("Kafka: there is no java")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA:
        found = version[1] if version else "of an unknown version"
        raise Missing(f"Kafka: java {found} is too old, {JAVA} is needed")
    return path


def jars() -> Path:
    """The folder with the jars, fetched if this is the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "investbus-lab"
    folder = cache / f"kafka-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"kafka-{VERSION}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Missing(f"Kafka: its jars are not in {folder} and there is no mvn to fetch them")
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder.parent) as scratch:
        Path(scratch, "pom.xml").write_text(POM)
        command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars"]
        try:
            fetched = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False, timeout=600)
        except subprocess.TimeoutExpired:
            raise Missing("Kafka: mvn could not fetch its jars within 600 s") from None
        if fetched.returncode != 0:
            first = next((line for line in fetched.stdout.splitlines() if line.startswith("[ERROR]")), "no message")
            raise Missing(f"Kafka: mvn could not fetch its jars ({first})")
        Path(scratch, "jars").rename(folder)
