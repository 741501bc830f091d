"""Stands in for curl, as far as the documents use it, so that they run on a machine without it."""

import argparse
import re
import sys

import httpx


def main() -> None:
    """`python -m tests.fundamentals.curl [-s] [-X method] [-H header]... [--json body] [-w format] url`."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("--json", dest="body")
    parser.add_argument("-w", dest="written", default="")
    parser.add_argument("url")
    given = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in given.headers)
    if given.body is not None:
        headers |= {"Content-Type": "application/json", "Accept": "application/json"}
    method = given.method or ("GET" if given.body is None else "POST")
    answer = httpx.request(method, given.url, content=given.body, headers=headers, trust_env=False)
    written = given.written.replace(r"\n", "\n").replace("%{http_code}", str(answer.status_code))
    written = re.sub(r"%header\{([\w-]+)\}", lambda header: answer.headers.get(header[1], ""), written)
    sys.stdout.write(answer.text + written)


if __name__ == "__main__":
    main()
