"""URLs from templates and ids. Ids come from the bus, so they are checked before any URL is built.

Quoting would not help: a quoted `..` still walks up, since clients resolve it (seen with yarl and httpx). So an id is refused
unless it consists of letters, digits, `_` and `-`.
"""

import re
from collections.abc import Mapping
from string import Formatter
from urllib.parse import quote, urlencode, urlsplit

from investbus.errors import Reject

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
PATH = re.compile(r"(/[A-Za-z0-9_.~-]+)*/?")  # of a filled template: a safety net under handlers that write ids into the template
QUERY = re.compile(r"[!\"$-~]*")


def checked(name: str, value: object) -> str:
    """`value` if it can be an id. Raises Reject; the value itself is not repeated, for it may be anything."""
    found = ID.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Reject(f'id "{name}" is not of the form [A-Za-z0-9_-]{{1,64}}')
    return found.group()  # a plain str: a subclass may format itself as something else, as members of enums do


def build(base: str, template: str, ids: Mapping[str, object], query: Mapping[str, str] | None = None) -> str:
    """The URL of a call. Raises Reject for an id that may not enter one, ValueError for a template that is wrong."""
    wanted = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    if not template.startswith("/") or wanted != set(ids):
        raise ValueError(f"template {template} takes the ids {sorted(wanted)}, and was given {sorted(ids)}")
    path, mark, asked = template.format(**{name: checked(name, value) for name, value in ids.items()}).partition("?")
    if not PATH.fullmatch(path) or not QUERY.fullmatch(asked) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"template {template!r} makes no plain path; ids go in as {{name}} and name=, not into its text")
    url = base.rstrip("/") + path + mark + asked
    if query:
        url += f"?{urlencode(query, quote_via=quote)}"
    built, root = urlsplit(url), urlsplit(base)
    if built.netloc != root.netloc or built.path != root.path.rstrip("/") + path:
        raise ValueError(f"the URL built from {template!r} leaves its template")
    return url


def fill_query(query: str, values: Mapping[str, object]) -> str:
    """`a eq {id}` with its values checked and quoted. The platform publishes no escape rule, so only ids go in."""
    wanted = {name for _, name, _, _ in Formatter().parse(query) if name is not None}
    if wanted != set(values):
        raise ValueError(f"query {query} takes the values {sorted(wanted)}, and was given {sorted(values)}")
    return query.format(**{name: f"'{checked(name, value)}'" for name, value in values.items()})
