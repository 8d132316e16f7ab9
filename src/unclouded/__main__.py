"""`python -m unclouded` is the `unclouded` command."""

from unclouded.cli import main

main()
