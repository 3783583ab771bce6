"""Every benchmark, one after the other, and the page: `python benchmarks [--quick | --long] [--only hot_path,start]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, end_well, some_of
from report import PAGE, RESULTS
from report import main as report

HERE = Path(__file__).resolve().parent
BENCHMARKS = ("hot_path", "ingest", "reads", "growth", "start")
LONG = ("instructions", "reads_large")
"""What a long form has beside those."""


def command(name: str, form: str, results: Path, folder: str) -> list[str]:
    """Return how to run one benchmark."""
    file = name.removesuffix("_large")
    words = [sys.executable, "-u", str(HERE / f"{file}.py"), "--json", str(results / f"{name}.json")]
    if file == "reads":
        words += ["--folder", folder]
    if name == "reads_large":
        words += ["--rows", "10000000"]
    return words if form == "short" else [*words, f"--{form}"]


def run(words: list[str]) -> None:
    """Run one benchmark. Who ends us ends it too, but not before it has stopped its servers, as `subprocess.run` would."""
    process = subprocess.Popen(words)  # noqa: S603 - our own
    try:
        code = process.wait()
    except SystemExit:
        process.terminate()  # Ctrl-C it has heard itself
        raise
    finally:
        process.wait()
    if code:
        raise SystemExit(f"{Path(words[2]).name} failed: {code}")


def main() -> None:
    """Run them, keep their results, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[arguments()], conflict_handler="resolve")
    parser.add_argument("--json", help=argparse.SUPPRESS)
    every = (*BENCHMARKS, *LONG)
    parser.add_argument(
        "--only",
        type=some_of(every),
        help=f"some of {','.join(every)} (default: all; without --long, not the last two)",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args()
    end_well()
    options.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lgss-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server's user goes through it
        for name in options.only or (every if options.form == "long" else BENCHMARKS):
            begin = time.monotonic()
            print(f"\n=== {name}", flush=True)
            run(command(name, options.form, options.results, folder))
            print(f"({time.monotonic() - begin:.0f} s)", flush=True)
    report(["--results", str(options.results), "--page", str(options.page)])


if __name__ == "__main__":
    main()
