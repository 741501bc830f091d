"""The demonstrations that people see first, as they see them."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
CELLS = re.compile(r"^│ (.+?) +│ (\d+) +│ (\d+) +│ (\d+) +│ [\d.]+ +│$", re.MULTILINE)
COLUMNS = re.compile(r"^(\S.*?)  +(\d+) +(\d+) +(\d+)$", re.MULTILINE)


def test_a_warehouses_day_goes_as_the_page_says() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "app", "demo", "--with-warehouse"],
        capture_output=True, text=True, timeout=100, check=False, env={"COLUMNS": "120", "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "│ NO" not in run.stdout
    written = COLUMNS.findall((DOCS / "ingest.md").read_text("utf-8"))
    assert len(written) == 10
    assert CELLS.findall(run.stdout) == written
