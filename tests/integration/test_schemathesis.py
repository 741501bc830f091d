"""What the service says of itself in /openapi.json, held against how it answers thousands of generated requests."""

import random
import re
import subprocess
import sys
from pathlib import Path

from tests.gateway import Gateway, done
from tests.service import Service

EXAMPLES_MAX = 25
# Rules between fields, and between a name and its normal form, are said in words and not in the schema.
CHECKS_LEFT_OUT = "positive_data_acceptance"


def test_the_document_is_true(service: Service, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, no answer or header that is unlike its description."""
    seed = random.randrange(2**32)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.gateway.address}/openapi.json"]
    options = (
        f"--seed {seed} --max-examples {EXAMPLES_MAX} --exclude-checks {CHECKS_LEFT_OUT} --warnings off --no-color"
    )
    run = subprocess.run([*command, *options.split()], cwd=tmp_path, capture_output=True, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    operations = sum(len(methods) for methods in document(service.gateway)["paths"].values())
    assert re.search(rf"Tested: {operations}\n", run.stdout), "every operation, and not one of them skipped"
    assert "request_failed" not in service.home.stderr


def document(gateway: Gateway) -> dict[str, dict[str, dict[str, object]]]:
    return done(gateway.get("/openapi.json"))
