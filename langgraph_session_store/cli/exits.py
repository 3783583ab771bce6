"""How the command ends: errors are one line on stderr and an exit code, never a traceback, a password or a driver's words."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from ..errors import ConfigError, FilterError, SessionStoreError, UnavailableError
from . import helping

MISSING: Final = 1
USAGE: Final = 2
AWAY: Final = 3
REFUSED: Final = 4
BUG: Final = 70
INTERRUPTED: Final = 130

CODES: Final = {
    0: "done",
    MISSING: "not found, declined, or doctor, drain, backfill or export left something undone",
    USAGE: "a word, option, filter or setting that cannot be understood",
    AWAY: "Postgres cannot be reached",
    REFUSED: "Postgres refuses: login, rights, table or values",
    BUG: "a fault of this program",
    INTERRUPTED: "Ctrl-C",
}


class Verbs(TyperGroup):
    """The command itself: runs one verb, and turns whatever it raises into a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        _hush()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # for programmers; the embedded Postgres is told of in a line of its own
                result = super().invoke(ctx)
            sys.stdout.flush()
        except SessionStoreError as error:
            fail(str(error), code_of(error))
        except BrokenPipeError:
            _drop_output()  # who reads had enough: that is an end like another
            return None
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            fail(f"{what}{error.strerror or type(error).__name__}", MISSING)
        except (typer.Exit, typer.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            if hasattr(error, "format_message"):  # typer's own: a mistake in words or options
                raise
            _report(error)
        return result

    def get_help(self, ctx: Any) -> str:
        """Return the help text."""
        return helping.colored(super().get_help(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs, by what they are for."""
        helping.write_verbs(self.get_command, ctx, formatter)

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line and exit."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a stream that was replaced may lack it
        try:
            result = super().main(*args, **{**extra, "standalone_mode": False})
            code = result if isinstance(result, int) else 0
        except typer.Abort:
            code = MISSING
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            path = getattr(getattr(error, "ctx", None), "command_path", "session-store")
            code = USAGE
            complain(f"{error.format_message().rstrip('.')} (see {path} --help)")
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
        if standalone_mode:
            sys.exit(code)
        return code


def code_of(error: SessionStoreError) -> int:
    """Return the exit code for one of our errors."""
    if isinstance(error, (FilterError, ConfigError)):
        return USAGE
    return AWAY if isinstance(error, UnavailableError) else REFUSED


def fail(message: str, code: int) -> NoReturn:
    """Say on stderr what went wrong, and end with *code*."""
    complain(message)
    raise typer.Exit(code)


def complain(message: str, kind: str = "error", style: str = "bold red") -> None:
    """Write one line to stderr."""
    console = Console(stderr=True, highlight=False)
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    with suppress(BrokenPipeError):  # a terminal would break a line within a word
        console.print(Text.assemble((f"{kind}:", style), " ", line), soft_wrap=not console.is_terminal)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage(), "warning", "bold yellow")


def _hush() -> None:
    """Let the package's warnings be lines on stderr, and the driver's, which quote what they were given, be none."""
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    ours = logging.getLogger("langgraph_session_store")
    if not ours.handlers:
        ours.addHandler(_Notes(logging.WARNING))
        ours.propagate = False


def _drop_output() -> None:
    """Point stdout at nothing, so that Python's last flush does not fail as well."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _report(error: Exception) -> NoReturn:
    """Say that the program is at fault: where, and not with what values."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    complain(
        f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}, which is a fault of session-store: "
        "please report it with this line and the command"
    )
    raise typer.Exit(BUG)
