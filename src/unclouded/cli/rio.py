"""`rio unclouded INPUT OUTPUT …`: `unclouded remove` as a command of rasterio, through its plugin entry point.

rasterio imports this module at every start of `rio`, so it imports as little as `unclouded --help`.
"""

from typing import Any

import click

from unclouded.cli.remove import remove
from unclouded.errors import UncloudedError


class _Remove(click.Command):
    """`remove` whose errors become a sentence and an exit code, since `rio` knows nothing of them."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UncloudedError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)


unclouded = _Remove(
    name="unclouded",
    callback=remove.callback,
    params=list(remove.params),
    help=remove.help,
    short_help="Take the clouds out of a scene.",
    context_settings={"max_content_width": 120},
)
