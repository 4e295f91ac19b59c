"""The example test of a bank, in a folder that holds nothing else, with and without another plug-in for async tests."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "examples" / "test_pay_out.py"
CLASSES = '''
from investbus import Router
router = Router()

@router.on("a.b")
async def handle(event, ctx): ctx.state.append(event.id)

class TestClass:
    def setup_method(self): self.seen = []

    async def test_method(self, bus):
        bus.use(router, state=self.seen)
        assert (await bus.send("a.b", {})).outcome == "done"
        assert self.seen == ["event-1"]
'''


def pytest_in(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("flags", [("-p", "no:asyncio"), ("-o", "asyncio_mode=strict"), ("-o", "asyncio_mode=auto")])
def test_the_example_passes_in_a_bare_folder(flags: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / EXAMPLE.name).write_text(EXAMPLE.read_text())
    (tmp_path / "test_classes.py").write_text(CLASSES)
    done = pytest_in(tmp_path, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_a_failing_test_fails(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace('raise Reject("portfolio is archived")', "return").replace("times=40", "times=40_000")
    (tmp_path / EXAMPLE.name).write_text(text)
    done = pytest_in(tmp_path)
    assert done.returncode == 1
    assert "2 failed, 2 passed" in done.stdout, done.stdout
