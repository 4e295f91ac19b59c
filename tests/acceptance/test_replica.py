"""The rig reads what other processes are just writing."""

from pathlib import Path

from tests.acceptance.handlers import LEDGER
from tests.acceptance.replica import Replica


def test_a_line_that_is_only_half_written_is_not_read(tmp_path: Path) -> None:
    replica = Replica("one", tmp_path, {})
    whole = "begin e1 17 1.500\n"
    for cut in range(len(whole)):
        (tmp_path / LEDGER).write_text(whole + whole[:cut])
        assert [noted.event_id for noted in replica.noted("begin")] == ["e1"]
