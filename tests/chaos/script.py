"""An agent without a server: records 20 runs, says so, and ends or waits for its end in the way that is its argument."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from agent import Content, config, graph, inputs, log_everything, record, recorder

RUNS = 20


def subject():
    return recorder(os.environ["CHAOS_DSN"], os.environ["CHAOS_SCHEMA"], os.environ["CHAOS_SPOOL"])


def work(runnable=None) -> None:
    runnable = runnable or subject().attach(graph())
    for number in range(RUNS):
        record(runnable, f"t-{number}", Content("served", number))


async def work_on_a_loop() -> None:
    runnable = subject().attach(graph())
    for number in range(RUNS):
        await runnable.ainvoke(inputs(Content("served", number)), config(f"t-{number}"))
    ready()
    await asyncio.sleep(600)


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def main(how: str) -> None:
    log_everything()
    match how:
        case "plain":
            work()
            ready()
            time.sleep(600)
        case "end":
            work()
            ready()
        case "_exit":
            work()
            ready()
            os._exit(0)
        case "asyncio":
            asyncio.run(work_on_a_loop())
        case "fork" | "spawn" | "forkserver":
            recording = (
                subject().attach(graph()) if how == "fork" else None
            )  # made in the parent, as a preloaded app is
            context = multiprocessing.get_context(how)
            child = context.Process(target=work, args=(recording,) if how == "fork" else ())
            child.start()
            child.join()
            ready()
            time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
