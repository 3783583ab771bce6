"""The command `session-store`: every verb, and what they say about themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from . import backfill, doctor, draining, exits, helping, keeping, looking

app = typer.Typer(
    name="session-store",
    cls=exits.Verbs,
    help="Sessions of LangGraph agents in Postgres: look at them, keep them, check that all is well.",
    epilog="Exit codes: " + "; ".join(f"{code} {what}" for code, what in exits.CODES.items()) + ".",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for verb, name in (
    (looking.list_sessions, "list"),
    (looking.show, "show"),
    (looking.stats, "stats"),
    (looking.versions, "versions"),
    (looking.watch, "watch"),
    (looking.export, "export"),
    (looking.clusters, "clusters"),
    (keeping.serve, "serve"),
    (keeping.init, "init"),
    (doctor.doctor, "doctor"),
    (draining.drain, "drain"),
    (backfill.backfill, "backfill"),
    (keeping.delete, "delete"),
    (keeping.erase, "erase"),
    (keeping.purge, "purge"),
    (keeping.demo, "demo"),
):
    app.command(name, cls=helping.Verb)(verb)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"session-store {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Print the help where no verb is given."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
