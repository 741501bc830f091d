"""The last chapter: the documents. Every curl line in them is run, in order, and must print what they show."""

import re
from collections.abc import Sequence

import pytest

from tests.fundamentals.console import ADDRESS, MISSING, ROOT, TOOLS, Console, examples
from tests.service import open_home

TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


DOCUMENTS = ["README.md", "docs/api.md", "docs/ingest.md", "docs/stock.md"]


@pytest.mark.parametrize(
    ("document", "missing"), [*((document, MISSING) for document in DOCUMENTS), ("docs/ingest.md", TOOLS)]
)
def test_the_document_shows_what_happens(document: str, missing: Sequence[str]) -> None:
    """With the settings that it shows, and also on a machine that has not what a reader types."""
    text = (ROOT / document).read_text("utf-8")
    shown = list(examples(text))
    assert shown, "a document without examples shows nothing"
    with open_home(is_archived=True) as home:
        home.data_dir.mkdir()
        (home.data_dir / "lastunit.toml").write_text("".join(TOML.findall(text)))
        console = Console(home.serve("--sample-stock").gateway.address, missing)
        for example in shown:
            home.await_archive()  # as a reader does, who is slower
            console.check(example)


LIVEZ = rf"$ curl -s -w '\n%{{http_code}}' {ADDRESS}/livez"
RIGHT = '{"status": "alive"}\n200'
WRONG = (
    '{"status": "alive"}\n404',
    '{"status": "alive", "more": 1}\n200',
    '{"status": "ready"}\n200',
    '{"status": 1}\n200',
    "{}\n200",
    "alive",
)


def test_a_document_that_errs_is_found_out() -> None:
    with open_home() as home:
        console = Console(home.serve().gateway.address)
        for shown in (RIGHT, "{...}\n200"):
            console.check(*examples(f"```console\n{LIVEZ}\n{shown}\n```\n"))
        for shown in WRONG:
            with pytest.raises(AssertionError):
                console.check(*examples(f"```console\n{LIVEZ}\n{shown}\n```\n"))
