"""What decoding costs: a usual event, and a megabyte (and two) of what an enemy would send.

The second figure of a row should be about twice the first: reading a message must cost time in proportion to its length.
Run it with `python -m tests.bench.decode`.
"""

import time
from collections.abc import Callable, Mapping

from investbus.dialects.investsuite import decode
from investbus.errors import DecodeError

MEGABYTE = 1 << 20
EVENT = (
    b'{"id":"00000000-0000-0000-0000-0000000000a1","created":"2026-11-21T09:01:02.000001Z","version":"1.0.0",'
    b'"subject":"portfolios","action":"status-update","data":{"id":"5b2a6f0e-8f6c-4d0b-9d1c-0d6a5e1d2c00",'
    b'"external_id":"a-00001","value":"ACTIVE","owned_by_user_id":"5b2a6f0e-8f6c-4d0b-9d1c-0d6a5e1d2c01",'
    b'"owned_by_external_user_id":"c-00001"}}'
)
MONEY = EVENT.replace(b'"value":"ACTIVE"', b'"divest_amount":1234.50')
UNKNOWN = EVENT[:-1] + b',"trace":"x"}'


def _event(data: bytes) -> bytes:
    return b'{"id":"e","version":"1.0.0","subject":"s","action":"a","data":{"x":%s}}' % data


HOSTILE: Mapping[str, Callable[[int], bytes]] = {
    "of {": lambda size: b"{" * size,
    "of [] side by side": lambda size: _event(b"[" + b",".join([b"[]"] * (size // 3)) + b"]"),
    "of [] 30 deep": lambda size: _event(b"[" + b",".join([b"[" * 29 + b"]" * 29] * (size // 59)) + b"]"),
    "of a string": lambda size: _event(b'"' + b"x" * size + b'"'),
    "of a string of escapes": lambda size: _event(b'"' + rb"\"" * (size // 2) + b'"'),
    "of a string of brackets": lambda size: _event(b'"' + b"[" * size + b'"'),
    "of quotes": lambda size: b'"' * size,
    "of quotes and brackets": lambda size: b"[" * 40 + b'"{' * (size // 2),
    "of escapes never closed": lambda size: b'[["' * 20 + rb"\"" * (size // 2) + b"\\",
    "of backslashes": lambda size: b"[" * 40 + b"\\" * size,
    "of digits": lambda size: _event(b"7" * (size * 9 // 10)),
    "of digits after the point": lambda size: _event(b"0." + b"7" * size),
    "of integers with 4,300 digits": lambda size: _event(b"[" + b",".join([b"7" * 4300] * (size // 4301)) + b"]"),
    "of numbers with exponents": lambda size: _event(b"[" + b",".join([b"1e999999"] * (size // 9)) + b"]"),
    "of fields": lambda size: _event(b"{" + b",".join(b'"%07d":0' % n for n in range(size // 12)) + b"}"),
    "of blanks": lambda size: b" " * size + EVENT,
}


def _least(message: bytes, runs: int, repeats: int) -> float:
    """The least time of one decode in microseconds: noise only ever adds."""
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(runs):
            try:
                decode(message, {})
            except DecodeError:
                continue
        took.append((time.perf_counter() - started) / runs)
    return min(took) * 1e6


def main() -> None:
    print(f"{'message':42s}{'us':>12s}")
    for name, message in {"event, 341 bytes": EVENT, "the same with an amount": MONEY, "unknown field (slow way)": UNKNOWN}.items():
        print(f"{name:42s}{_least(message, 20_000, 7):12.2f}")
    print(f"\n{'':42s}{'1 MB, us':>12s}{'2 MB, us':>12s}{'ratio':>8s}")
    for name, make in HOSTILE.items():
        one, two = (_least(make(size), 1, 5) for size in (MEGABYTE, 2 * MEGABYTE))
        print(f"{name:42s}{one:12.0f}{two:12.0f}{two / one:8.1f}")


if __name__ == "__main__":
    main()
