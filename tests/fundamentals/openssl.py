"""Stands in for openssl, as far as the documents use it, so that they run on a machine without it."""

import argparse
import hmac
import sys


def main() -> None:
    """`python -m tests.fundamentals.openssl dgst -sha256 -mac HMAC -macopt hexkey:<key> -binary`, from stdin."""
    parser = argparse.ArgumentParser(prog="openssl")
    parser.add_argument("command", choices=["dgst"])
    parser.add_argument("-mac", choices=["HMAC"], required=True)
    parser.add_argument("-macopt", required=True)
    for flag in ("-sha256", "-binary"):
        parser.add_argument(flag, action="store_true", required=True)
    key = bytes.fromhex(parser.parse_args().macopt.removeprefix("hexkey:"))
    sys.stdout.buffer.write(hmac.digest(key, sys.stdin.buffer.read(), "sha256"))


if __name__ == "__main__":
    main()
