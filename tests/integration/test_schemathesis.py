"""What the service says of itself in /openapi.json, held against how it answers thousands of generated requests."""

import random
import re
import subprocess
import sys
from pathlib import Path

from tests.gateway import done
from tests.service import Service

EXAMPLES_MAX = 15
CHECKS_LEFT_OUT = (
    "positive_data_acceptance",  # rules between fields are said in words, not in the schema
    "use_after_free",  # DELETE releases a reservation, whose record stays to be read
)


def test_the_document_is_true(service: Service, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, no answer or header that is unlike its description."""
    seed = random.randrange(2**32)
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{service.gateway.address}/openapi.json", "--seed", str(seed),
        "--max-examples", str(EXAMPLES_MAX), "--exclude-checks", ",".join(CHECKS_LEFT_OUT), "--warnings", "off",
        "--no-color",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    operations = sum(len(methods) for methods in done(service.gateway.get("/openapi.json"))["paths"].values())
    assert re.search(rf"Tested: {operations}\n", run.stdout), "every operation, and not one of them skipped"
    assert "request_failed" not in service.home.stderr
