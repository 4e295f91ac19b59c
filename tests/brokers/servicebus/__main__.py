"""An Azure Service Bus namespace for tests: `python -m tests.brokers.servicebus --port P --control-port C --config FILE`

`--config` is a config.json of the official emulator; `--journal` keeps what was confirmed over a kill; `--strict` closes the
connection of a client that gives two deliveries the same id. Listens on the loopback interface only.
"""

import argparse
import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path

from tests.brokers.servicebus.control import serve_control
from tests.brokers.servicebus.server import Server
from tests.brokers.servicebus.settings import Entities, read_config


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.brokers.servicebus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--config", type=Path, metavar="FILE", help="(empty namespace)")
    parser.add_argument("--journal", type=Path, metavar="FILE", default=Path(os.devnull), help="(nothing is kept)")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="PEM; speak TLS with it")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key (in the same file)")
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    try:
        entities = Entities() if options.config is None else read_config(options.config)
        asyncio.run(_serve(options, entities))
    except (OSError, ValueError) as error:
        print(f"Service Bus emulator: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(options: argparse.Namespace, entities: Entities) -> None:
    tls = None
    if options.cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.cert, options.key)
    server = Server(entities, options.journal, strict=options.strict)
    listener = await server.listen(options.port, tls)
    await serve_control(server, options.control_port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clock = asyncio.create_task(server.keep_time())
    await asyncio.wait((clock, asyncio.create_task(stop.wait())), return_when=asyncio.FIRST_COMPLETED)
    listener.close()
    if clock.done():
        clock.result()
    clock.cancel()


if __name__ == "__main__":
    sys.exit(main())
