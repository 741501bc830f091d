"""The last chapter: the documents. Every curl line in them is run, in order, and must print what they show."""

import pytest

from tests.fundamentals.console import ADDRESS, ROOT, STAND_IN, Console, examples
from tests.service import open_home


@pytest.mark.parametrize("document", ["README.md", "docs/api.md", "docs/stock.md"])
def test_the_document_shows_what_happens(document: str) -> None:
    shown = list(examples((ROOT / document).read_text("utf-8")))
    assert shown, "a document without examples shows nothing"
    with open_home(is_archived=True) as home:
        console = Console(home.serve("--sample-stock").gateway.address)
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


def test_the_documents_run_where_curl_is_missing() -> None:
    with open_home() as home:
        console = Console(home.serve().gateway.address, STAND_IN)
        console.check(*examples(f"```console\n{LIVEZ}\n{RIGHT}\n```\n"))
