"""A soak: 50 runs a second while the database comes and goes; memory, threads and files over time as a plot.

    python tests/chaos/soak.py --minutes 20 --plot docs/images/soak.svg

The agent is a process of its own; this one starts the database, takes it away every 30 seconds for 15, and measures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from conftest import Server, open_folder  # noqa: E402
from proxy import Proxy  # noqa: E402

PERIOD, DOWN = 30.0, 15.0
RATE = 50


def sample(process: psutil.Process, spool: Path) -> dict[str, float]:
    with process.oneshot():
        memory, threads, files = process.memory_info().rss / 2**20, process.num_threads(), process.num_fds()
    segments = [path.stat().st_size for path in spool.rglob("*.seg") if path.exists()]
    return {"memory": memory, "threads": threads, "files": files, "spool": sum(segments) / 2**20}


def run(minutes: float, folder: Path) -> tuple[list[dict[str, float]], dict[str, Any]]:
    home = open_folder()
    server = Server(home / "pg")
    server.start()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA soak")
    samples: list[dict[str, float]] = []
    options = {"slot": "soak", "oracle": str(folder), "schema": "soak", "spool": str(folder / "spool"), "drain": 60}
    options |= {"first": 0, "last": int(RATE * 60 * minutes), "threads": 500, "pause": 1 / RATE}
    try:
        with Proxy(server.dsn) as proxy, (folder / "log").open("wb") as log:
            command = [sys.executable, str(HERE / "worker.py"), json.dumps(options | {"dsn": proxy.dsn})]
            agent = subprocess.Popen(command, stderr=log)
            process, began, down = psutil.Process(agent.pid), time.monotonic(), False
            end = began + minutes * 60
            while agent.poll() is None and (now := time.monotonic()) < end + 120:
                wanted = now < end and (now - began) % PERIOD > PERIOD - DOWN
                if wanted != down:
                    proxy.refuse() if wanted else proxy.open()
                    down = wanted
                if (folder / "soak.done").exists() and now < end:
                    try:
                        samples.append({"time": now - began, "down": down, **sample(process, folder / "spool")})
                    except psutil.Error:
                        break
                time.sleep(1.0)
                if now >= end and agent.poll() is None:
                    agent.terminate()
            agent.wait(60)
            return samples, verdict(server.dsn, folder, proxy.dsn, log=(folder / "log"))
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def verdict(dsn: str, folder: Path, through: str, log: Path) -> dict[str, Any]:
    """Let the next start adopt what is left, and count every accepted run in the history."""
    from agent import Content, graph, record, recorder

    accepted = {int(line.split()[1]) for line in (folder / "soak.done").read_text().splitlines()}
    with recorder(through, "soak", folder / "spool") as next_start:
        record(next_start.attach(graph()), "fresh", Content("next", 1))
        found: set[int] = set()
        began = time.monotonic()
        while time.monotonic() < began + 300 and not accepted <= found:
            with psycopg.connect(dsn) as connection:
                rows = connection.execute("SELECT code FROM soak.session_states_versions WHERE code LIKE 'soak:%'")
                found = {content.number for (text,) in rows if (content := Content.parse(text))}
            time.sleep(1)
    text = log.read_text(errors="replace")
    return {
        "runs": len(accepted),
        "lost": len(accepted - found),
        "seconds until the next start has stored what was left": round(time.monotonic() - began),
        "canaries in the log": text.count("canary"),
        "log lines of ours": sum(line.startswith("langgraph_session_store") for line in text.splitlines()),
        "unbalanced": (folder / "soak.wrong").read_text().count("\n"),
    }


def plot(samples: list[dict[str, float]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "soak"
    minutes = [one["time"] / 60 for one in samples]
    figure, axes = plt.subplots(4, 1, figsize=(8, 7), sharex=True, layout="constrained")
    labels = {"memory": "memory, MiB", "threads": "threads", "files": "open files", "spool": "spool, MiB"}
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        values = [one[name] for one in samples]
        axis.plot(minutes, values, color="#2457c5", linewidth=1)
        axis.fill_between(
            minutes, 0, 1, where=[one["down"] > 0 for one in samples], color="#d9480f", alpha=0.12, linewidth=0,
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip
        axis.set_ylim(0, max(values) * 1.15 or 1)
        axis.set_ylabel(label)
        axis.grid(alpha=0.25)
    axes[0].set_title(f"{RATE} runs a second, the database away where the ground is red")
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples, told = run(options.minutes, Path(folder))
    settled = samples[len(samples) // 4 :]
    for name in ("memory", "threads", "files"):
        values = [one[name] for one in settled]
        told[name] = f"{min(values):.0f} to {max(values):.0f}, {values[-1]:.0f} at the end"
    half = len(settled) // 2
    older, newer = (sum(one["memory"] for one in part) / len(part) for part in (settled[:half], settled[half:]))
    told["memory, later half minus earlier"] = f"{newer - older:+.1f} MiB"
    sys.stdout.writelines(f"{name}: {value}\n" for name, value in told.items())
    if options.plot:
        plot(samples, options.plot)


if __name__ == "__main__":
    main()
