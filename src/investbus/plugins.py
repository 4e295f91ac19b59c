"""Transports, dialects and handlers by name: a built-in name, an entry point, or an import string `module:attribute`.

Only what is named is imported, so a client library is needed only by those whose transport it is. A name comes from a user, and so
may the module behind it: whatever goes wrong here is one line for that user.
"""

import difflib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from investbus.errors import ConfigError, noting

if TYPE_CHECKING:
    from investbus.router import Router

Kind = Literal["transport", "dialect", "handlers"]

BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "transport": {
        "kafka": "investbus.transports.kafka:Kafka",
        "rabbitmq": "investbus.transports.rabbitmq:RabbitMq",
        "servicebus": "investbus.transports.servicebus:ServiceBus",
        "file": "investbus.transports.file:File",
        "memory": "investbus.transports.memory:Memory",
    },
    "dialect": {"investsuite": "investbus.dialects.investsuite:decode"},
    "handlers": {},
}
GROUPS: Mapping[Kind, str] = {
    "transport": "investbus.transports",
    "dialect": "investbus.dialects",
    "handlers": "investbus.handlers",
}
_IMPORT_STRING = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
_LOADERS = (__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
# The library that a transport's extra of the same name installs.
CLIENTS = {"kafka": "aiokafka", "rabbitmq": "aiormq", "servicebus": "azure"}


def load_transport(name: str) -> Callable[..., Any]:
    """The class of a transport."""
    try:
        found: Callable[..., Any] = _load("transport", name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != CLIENTS.get(name):
            raise
        raise ConfigError([f'transport: "{name}" needs the extra: pip install "investbus[{name}]"']) from None
    return found


def load_dialect(name: str) -> Callable[..., Any]:
    """The `decode` function of a dialect."""
    found: Callable[..., Any] = _load("dialect", name)
    return found


def load_handlers(names: Sequence[str], mistakes: list[str]) -> "list[tuple[str, Router]]":
    """The routers that `handlers` names, in its order. What is wrong with the others goes to `mistakes`."""
    from investbus.router import Router

    routers: list[tuple[str, Router]] = []
    for name in names:
        with noting(mistakes):
            found = _load("handlers", name)
            if not isinstance(found, Router):
                raise ConfigError([f'handlers: "{name}" is of type {type(found).__name__}; an investbus.Router is needed'])
            routers.append((name, found))
    return routers


def is_known(kind: Kind, name: str) -> bool:
    """Whether there is something under this name; an import string is taken on trust until it is loaded."""
    return _IMPORT_STRING.fullmatch(name) is not None or name in BUILT_IN[kind] or name in _installed(kind)


def unknown(kind: Kind, name: str) -> str:
    """What to say of a name that is not known."""
    names = [*BUILT_IN[kind], *_installed(kind)]
    if found := near(name, names):
        return f'"{name}" is unknown; did you mean {found}?'
    if kind == "handlers":
        return f'"{name}" is unknown; write module:attribute, such as bank.events:router'
    return f'"{name}" is unknown; known: {", ".join(names)}'


def near(name: str, names: Iterable[str], alike: float = 0.6) -> str:
    """The one of `names` that was probably meant, else nothing."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=alike)), "")


def _installed(kind: Kind) -> dict[str, str]:
    return {one.name: one.value.partition("[")[0].strip() for one in entry_points(group=GROUPS[kind])}


def _load(kind: Kind, name: str) -> Any:
    spec = BUILT_IN[kind].get(name) or (name if _IMPORT_STRING.fullmatch(name) else _installed(kind).get(name))
    if spec is None:
        raise ConfigError([f"{kind}: {unknown(kind, name)}"])
    if name not in BUILT_IN[kind] and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    module_name, _, attribute = spec.partition(":")
    label = f'{kind}: "{name}"'
    module = _module(module_name, label, CLIENTS.get(name, ""))
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError:
        found = near(attribute, vars(module))
        raise ConfigError([f"{label}: {module_name} has no {attribute}" + (f"; did you mean {found}?" if found else "")]) from None


def _module(name: str, label: str, client: str) -> Any:
    try:
        return importlib.import_module(name)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # the module is a user's: importing it can do anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and client and missing.partition(".")[0] == client:
            raise
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ConfigError([f"{label}: there is no module {missing}, neither in {os.getcwd()} nor installed"]) from None
        said = error.msg if isinstance(error, SyntaxError) else error
        reason = " ".join(f"{type(error).__name__}: {said}".split())
        raise ConfigError([f"{label}: {place_of_error(error)}{reason}"]) from None


def place_of_error(error: BaseException, otherwise: str = "") -> str:
    """file:line of the innermost frame in the current folder, where the mistake probably is; else `otherwise`, if it is given, or
    the innermost at all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename)}:{error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in _LOADERS]
    own = [frame for frame in frames if not os.path.isabs(_relative(frame.filename)) and "site-packages" not in frame.filename]
    if not own and otherwise:
        return f"{otherwise}: "
    return next((f"{_relative(frame.filename)}:{frame.lineno}: " for frame in reversed(own or frames)), "")


def _relative(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
