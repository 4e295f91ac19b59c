"""What other processes do to a store: run as `python -m tests.stores.children NAME PATH`."""

import asyncio
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from investbus.errors import StoreError
from investbus.store import Filter
from investbus.stores.sqlite import SqliteStore
from tests.stores.letters import done, identity, letter


async def killed_after_put_dead(path: Path) -> None:
    """Die the hard way, the moment that `put_dead` has returned."""
    store = SqliteStore(path)
    await store.open()
    await store.put_dead([letter(1)], [done(1)])
    os.kill(os.getpid(), signal.SIGKILL)


async def neighbour(path: Path) -> None:
    """Write beside the parent, which does the same at this moment."""
    store = SqliteStore(path)
    sys.stdin.readline()
    await store.open()
    for number in range(1, 200, 2):
        await store.put_dead([letter(number)], [done(number)])
        assert await store.get_dead(letter(number).id) == letter(number)
    await store.close()


async def full_disk(path: Path) -> None:
    """Meet the end of the disk, here a limit on the size of files, in the middle of a commit that several calls share."""
    store = SqliteStore(path)
    await store.open()
    await store.put_dead([letter(0)], [])
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, most))
    busy = asyncio.ensure_future(store._thread.read(lambda db: time.sleep(0.2)))
    puts = [store.put_dead([letter(number, body=b"x" * 50_000)], [done(number)]) for number in range(1, 4)]
    _, *errors = await asyncio.gather(busy, *puts, return_exceptions=True)
    assert [type(error) for error in errors] == [StoreError] * 3, errors
    assert [one.id for one in await store.list_dead(Filter(), 9)] == [letter(0).id]
    assert await store.find_done([identity(number) for number in range(1, 4)]) == {}
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    await store.put_dead([letter(number) for number in range(1, 4)], [])
    assert len(await store.list_dead(Filter(), 9)) == 4
    await store.close()
    sys.stdout.write(f"{errors[0]}\n")


async def read_only(path: Path) -> None:
    """Meet a file that may not be written; root may write everything, so root becomes somebody else."""
    warm = SqliteStore(path)
    await warm.open()  # everything is imported before this process may read little
    await warm.close()
    with tempfile.TemporaryDirectory() as folder:  # not below `path`, whose parents are closed to others
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        store = SqliteStore(Path(folder) / "state.db")
        await store.open()
        await store.put_dead([letter()], [])
        await store.close()
        (Path(folder) / "state.db").chmod(0o400)
        try:
            await store.open()
        except StoreError as error:
            sys.stdout.write(f"{error}\n")
        (Path(folder) / "state.db").chmod(0o600)
        await store.open()
        await store.put_dead([letter(1)], [])
        assert len(await store.list_dead(Filter(), 9)) == 2
        await store.close()
        os.seteuid(os.getuid())


if __name__ == "__main__":
    acts = {act.__name__: act for act in (killed_after_put_dead, neighbour, full_disk, read_only)}
    asyncio.run(acts[sys.argv[1]](Path(sys.argv[2])))
