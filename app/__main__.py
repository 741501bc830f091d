"""`python -m app`: the `lastunit` command where it is not installed."""

from app.cli import main

main()
