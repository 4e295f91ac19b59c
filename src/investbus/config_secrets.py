"""Whether a file that the configuration names holds anything, and whether a secret can be what it should be.

It is said under the key that the user wrote, which for a `_file` is not the one that the rest of the program speaks of, and never
with a word of the secret.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from investbus.config_file import Key

CERTIFICATES = ("ca_file", "cert_file", "key_file")
STORE_FORM = "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"


def _is_connection_string(text: str) -> bool:
    pairs = (part.partition("=") for part in text.split(";"))
    parts = {name.strip().lower(): value for name, _, value in pairs if value}
    by_key = {"sharedaccesskeyname", "sharedaccesskey"} <= parts.keys()
    return bool(re.match(r"sb://[^/\s]", parts.get("endpoint", ""))) and (by_key or "sharedaccesssignature" in parts)


FORMS: Mapping[tuple[str, str], tuple[Callable[[str], object], str]] = {  # section and key of a secret: test, and what to write
    ("rabbitmq", "url"): (re.compile(r"amqps?://\S+").fullmatch, "must be amqps://USER:PASSWORD@HOST:PORT/VHOST"),
    ("servicebus", "connection_string"): (
        _is_connection_string, "must be Endpoint=sb://HOST;SharedAccessKeyName=NAME;SharedAccessKey=KEY",
    ),
    ("store", "url"): (re.compile(r"sqlite:///.+|postgresql://\S+").fullmatch, STORE_FORM),
}  # fmt: skip


def unusable_files(part: Mapping[str, Any], at: Key) -> Iterator[tuple[Key, str]]:
    """Files of a section and of those within it that cannot be read, or have nothing in them."""
    for name, value in part.items():
        if isinstance(value, dict):
            yield from unusable_files(value, (*at, name))
        elif name.endswith("_file") and isinstance(value, str):
            try:
                held = Path(value).read_bytes()
            except OSError as error:
                yield (*at, name), f"{value}: cannot be read: {error.strerror}"
                continue
            if not held.strip():
                yield (*at, name), f"{value}: is empty"
            elif name not in CERTIFICATES and not _is_text(held):
                yield (*at, name), f"{value}: is no text in UTF-8"


def malformed(tree: Mapping[str, Any], sections: tuple[str, ...]) -> Iterator[tuple[Key, str]]:
    """Secrets that can never lead anywhere."""
    for (section, name), (fits, words) in FORMS.items():
        part = tree.get(section)
        if section not in sections or not isinstance(part, dict):
            continue
        if name in part:
            if section != "store" and isinstance(value := part[name], str) and not fits(value):  # the model knows the store's form
                yield (section, name), words
        elif isinstance(path := part.get(f"{name}_file"), str) and (held := _text(path)) and not fits(held):
            yield (section, f"{name}_file"), f"{path}: {words}"


def _text(path: str) -> str:
    """What the file holds; nothing where it cannot be read, which is another mistake."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_text(held: bytes) -> bool:
    try:
        held.decode()
    except UnicodeDecodeError:
        return False
    return True
