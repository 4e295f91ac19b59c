"""`python -m tests.chaos`: the crash test at full size, with its seed, and exit 1 if a promise was broken."""

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from tests.brokers.missing import Missing
from tests.chaos import kafka, rabbitmq, servicebus
from tests.chaos.bus import Bus
from tests.chaos.chaos import Chaos, Plan


def main() -> int:
    given = _arguments()
    plan = Plan(seed=given.seed, events=given.events, keys=given.keys, kills=given.kills, workers=given.workers)
    print(f"{given.bus}, seed {plan.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="investbus-chaos-"))
    (folder / "broker").mkdir()
    try:
        with _opened(given, folder / "broker") as bus:
            report = asyncio.run(Chaos(bus, folder, plan).run())
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 3
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    print(f"ledgers and logs: {folder}")
    print("every promise held" if not report.violations else "PROMISES BROKEN")
    return 1 if report.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill workers and check the promises.")
    parser.add_argument("--bus", choices=["kafka", "rabbitmq", "servicebus"], default="kafka")
    parser.add_argument("--single-active", action="store_true", help="rabbitmq: one consumer at a time, for order over all workers")
    parser.add_argument("--sessions", type=int, default=0, metavar="N", help="servicebus: so many per worker; a key is one")
    parser.add_argument("--events", type=int, default=10_000, help="at least so many: they keep coming until the last kill")
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=3, help="beside one more that joins and leaves")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    if given.single_active and given.bus != "rabbitmq":
        parser.error(f"--single-active is for rabbitmq, not for {given.bus}")
    if given.sessions and given.bus != "servicebus":
        parser.error(f"--sessions is for servicebus, not for {given.bus}")
    return given


def _opened(given: argparse.Namespace, folder: Path) -> AbstractContextManager[Bus]:
    match given.bus:
        case "rabbitmq": return rabbitmq.opened(folder, single_active=given.single_active)
        case "servicebus": return servicebus.opened(folder, sessions=given.sessions)
        case _: return kafka.opened(folder)


if __name__ == "__main__":
    sys.exit(main())
