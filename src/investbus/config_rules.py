"""What can be wrong with a configuration, in plain words: unknown keys, values of the wrong kind, keys that do not go together.

Works on the plain tree, before it is a `Settings`, so that one run names every mistake. No value is repeated in a message unless it
is the name of a transport or dialect: any other may be a secret in the wrong place.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from investbus.config import ENV_PREFIX, Retries, Settings
from investbus.config_file import Key
from investbus.config_secrets import STORE_FORM, malformed, unusable_files
from investbus.plugins import is_known, near, unknown

NEEDED = {  # transports whose section is mandatory
    "kafka": ("bootstrap_servers", "topic", "group"),
    "rabbitmq": ("url", "queue"),
    "servicebus": ("connection_string or namespace", "queue, or topic and subscription"),
    "file": ("path",),
}
CREDENTIALS = {  # what a SASL mechanism needs
    "PLAIN": ("username", "password"),
    "SCRAM-SHA-256": ("username", "password"),
    "SCRAM-SHA-512": ("username", "password"),
    "OAUTHBEARER": ("token",),
}

_OF_KUBERNETES = re.compile(r"(^|_)(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)$")
_FORMS = {  # what a pattern or a hook in the models means
    "api.base_url": "must be https://HOST or https://HOST/PATH, without user, query or fragment",
    "api.proxy": "must be http://HOST:PORT, without user, path or query",
    "store.url": STORE_FORM,
    "kafka.bootstrap_servers": "must be host:port, or several of them",
    "rabbitmq.management_url": "must be https://HOST or https://HOST:PORT, without user, query or fragment",
}
_WORDS = {
    "string_type": "must be a text; put it in quotes",
    "string_too_short": "must not be empty",
    "too_short": "must name at least one",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list: [a, b]",
    "value_error": "must be a list: [a, b]",
    "dict_type": "must be a section of keys",
    "model_type": "must be a section of keys",
    "path_type": "must be a path",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "missing": "is missing; set it, or {variable}",
}


def dotted(key: Key) -> str:
    return ".".join(key)


def variable(key: Key) -> str:
    """The environment variable that sets `key`."""
    return ENV_PREFIX + "__".join(key).upper()


def in_words(error: ErrorDetails) -> tuple[Key, str]:
    """One error of pydantic: the key, and what is asked of it."""
    key = tuple(str(part) for part in error["loc"])
    kind = error["type"]
    form = next((words for name, words in _FORMS.items() if dotted(key).startswith(name)), "")
    if form and kind == "string_pattern_mismatch":
        return key, form
    words = _WORDS.get(kind) or error["msg"].replace("Input should", "must")
    context = {"variable": variable(key), **error.get("ctx", {})}
    if "expected" in context:
        context["expected"] = re.sub(r"'([^']*)'", r"\1", context["expected"])
    return key, words.format_map(context)


def retry_in_words(error: ErrorDetails) -> str:
    """One error in the `retry=` of a decorator."""
    key, words = in_words(error)
    if error["type"] != "extra_forbidden":
        return f"retry.{dotted(key)}: {words}"
    meant = near(key[-1], Retries.model_fields)
    hint = f"did you mean retry.{meant}?" if meant else f"known here: {', '.join(Retries.model_fields)}"
    return f"retry.{dotted(key)}: unknown key; {hint}"


def section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model that a field holds, and whether it holds many, by name."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part, get_origin(annotation) is dict
    return None, False


def known(tree: Mapping[str, Any], model: type[BaseModel], unknown_keys: list[Key], at: Key = ()) -> dict[str, Any]:
    """What of `tree` the model knows; the rest goes to `unknown_keys`. A key without a value (`null`) is as if not there."""
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        if (field := model.model_fields.get(name)) is None:
            unknown_keys.append((*at, name))
            continue
        inner, many = section(field.annotation)
        if isinstance(value, dict) and inner and many:
            value = {
                one: known(each, inner, unknown_keys, (*at, name, one)) if isinstance(each, dict) else each
                for one, each in value.items()
            }
        elif isinstance(value, dict) and inner:
            value = known(value, inner, unknown_keys, (*at, name))
        if value is not None:
            kept[name] = value
    return kept


def keys(model: type[BaseModel] = Settings, at: Key = ()) -> Iterator[Key]:
    """Every key that has a value of its own, and every section before its keys."""
    for name, field in model.model_fields.items():
        yield (*at, name)
        inner, many = section(field.annotation)
        if inner and not many:
            yield from keys(inner, (*at, name))


def unknown_key(key: Key) -> tuple[str, Key | None]:
    """What to say of `key`, and which key was meant: the same word in another section, else the nearest of its own."""
    model: type[BaseModel] = Settings
    for name in key[:-1]:
        field = model.model_fields.get(name)
        model = (section(field.annotation)[0] if field else None) or model
    if elsewhere := [one for one in keys() if one[-1] == key[-1]]:
        return f"unknown key; did you mean {' or '.join(map(dotted, elsewhere))}?", elsewhere[0]
    if found := near(key[-1], model.model_fields):
        return f"unknown key; did you mean {dotted((*key[:-1], found))}?", (*key[:-1], found)
    return f"unknown key; known here: {', '.join(model.model_fields) or 'none'}", None


def unknown_variable(name: str) -> tuple[str, Key | None]:
    """The same for an environment variable."""
    word = name.upper().removeprefix(ENV_PREFIX)
    if _OF_KUBERNETES.search(word):
        return "is no setting but of a Kubernetes Service; the pod needs enableServiceLinks: false", None
    by_word = {variable(key).removeprefix(ENV_PREFIX): key for key in keys()}
    if found := near(word, by_word):
        return f"unknown variable; did you mean {ENV_PREFIX}{found}?", by_word[found]
    return "unknown variable; no setting has such a name", None


def broken_rules(tree: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """What no single field can know. Values of the wrong kind are left to the models."""
    transport, dialect = tree.get("transport", "file"), tree.get("dialect", "investsuite")
    if isinstance(transport, str):
        yield from _transport(tree, transport)
    if isinstance(dialect, str) and not is_known("dialect", dialect):
        yield ("dialect",), unknown("dialect", dialect)
    yield from _twins(tree, Settings)
    used = ("api", "store", *((transport,) if isinstance(transport, str) else ()))
    for name in used:
        if isinstance(part := tree.get(name), dict):
            yield from unusable_files(part, (name,))
    yield from malformed(tree, used)
    if isinstance(api := tree.get("api"), dict):
        yield from _secrets(api, ("api",), ("access_key_id", "secret_access_key"), "the login needs it")


def _transport(tree: Mapping[str, Any], name: str) -> Iterator[tuple[Key, str]]:
    if not is_known("transport", name):
        yield ("transport",), unknown("transport", name)
    elif name in NEEDED and name not in tree:
        said = f'transport is "{name}"' + ("" if "transport" in tree else ", the default")
        yield (name,), f"section is missing; {said}; it needs {', '.join(NEEDED[name])}"
    if name == "kafka" and isinstance(kafka := tree.get("kafka"), dict) and isinstance(kafka.get("security", {}), dict):
        yield from _sasl(kafka.get("security", {}))
    if name == "rabbitmq" and isinstance(rabbitmq := tree.get("rabbitmq"), dict):
        yield from _rabbitmq(rabbitmq)
    if name == "servicebus" and isinstance(servicebus := tree.get("servicebus"), dict):
        yield from _servicebus(servicebus)


def _rabbitmq(part: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    at = ("rabbitmq",)
    yield from _secrets(part, at, ("url",), "it names the broker: amqps://user:password@host/vhost")
    if ("cert_file" in part) != ("key_file" in part):
        one, other = ("cert_file", "key_file") if "cert_file" in part else ("key_file", "cert_file")
        yield (*at, other), f"is missing; {one} needs it"


def _servicebus(part: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    at = ("servicebus",)
    by_key = bool({"connection_string", "connection_string_file"} & part.keys())
    if by_key and "namespace" in part:
        yield (*at, "namespace"), "stands together with a connection string; keep one of them"
    if not by_key and "namespace" not in part:
        yield (*at, "connection_string"), "is missing; set it or connection_string_file, or namespace for Entra ID"
    if isinstance(namespace := part.get("namespace"), str) and not re.fullmatch(r"[\w.-]+(:\d+)?", namespace):
        yield (*at, "namespace"), "must be NAME.servicebus.windows.net, without https:// and without a path"
    if "queue" in part and {"topic", "subscription"} & part.keys():
        yield (*at, "queue"), "stands together with topic or subscription; keep the one that is consumed"
    elif "queue" not in part:
        for name in ("topic", "subscription"):
            if name not in part:
                yield (*at, name), "is missing; set topic and subscription, or queue"


def _sasl(security: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    at = ("kafka", "security")
    protocol, mechanism = str(security.get("protocol", "PLAINTEXT")), security.get("mechanism")
    if protocol.startswith("SASL") and mechanism is None:
        yield (*at, "mechanism"), f"is missing; protocol {protocol} needs one, such as SCRAM-SHA-512"
    elif not protocol.startswith("SASL") and mechanism is not None:
        yield (*at, "mechanism"), f"has no effect with protocol {protocol}; use SASL_SSL, or leave it out"
    else:
        yield from _secrets(security, at, CREDENTIALS.get(str(mechanism), ()), f"{mechanism} needs it")
    for names, word, use in (
        (("username", "password", "password_file", "token", "token_file"), "SASL", "SASL_SSL"),
        (("ca_file", "cert_file", "key_file"), "SSL", "SSL or SASL_SSL"),
    ):
        if word not in protocol:
            said = f"has no effect with protocol {protocol}; use {use}, or leave it out"
            yield from (((*at, name), said) for name in names if name in security)
    if "key_file" in security and "cert_file" not in security:
        yield (*at, "cert_file"), "is missing; key_file needs it"


def _secrets(part: Mapping[str, Any], at: Key, names: tuple[str, ...], why: str) -> Iterator[tuple[Key, str]]:
    for name in names:
        if not {name, f"{name}_file"} & part.keys():
            twin = f"; set it or {name}_file" if name != "username" else ""
            yield (*at, name), f"is missing; {why}{twin}"


def _twins(tree: Mapping[str, Any], model: type[BaseModel], at: Key = ()) -> Iterator[tuple[Key, str]]:
    for name, field in model.model_fields.items():
        twin = f"{name}_file"
        if name in tree and twin in tree:
            yield (*at, name), f"stands together with {twin}; keep one of them"
        inner, many = section(field.annotation)
        if inner and not many and isinstance(tree.get(name), dict):
            yield from _twins(tree[name], inner, (*at, name))
