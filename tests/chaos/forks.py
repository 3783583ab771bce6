"""Four threads that record while the process forks: children record too, half of them die without a word."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from agent import Content, balanced, graph, log_everything, record, recorder

warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks are the point


def main() -> None:
    options = json.loads(sys.argv[1])
    log_everything()
    subject = recorder(options["dsn"], options["schema"], options["spool"])
    runnable, stop, made = subject.attach(graph()), threading.Event(), [0] * 4

    def work(thread: int) -> None:
        while not stop.is_set():
            made[thread] += 1
            record(runnable, f"p{thread}", Content(f"p{thread}", made[thread]))
            time.sleep(0.005)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    children = []
    for number in range(options["forks"]):
        if (pid := os.fork()) == 0:
            signal.alarm(60)  # a deadlock is a child that is killed
            record(runnable, f"c{number}", Content("child", number))
            ok = balanced(subject) and (number % 2 == 0 or subject.close(30))
            os._exit(0 if ok else 1)
        children.append(pid)
        time.sleep(0.01)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    stop.set()
    for thread in threads:
        thread.join()
    flushed = bool(subject.flush(60))
    said = {"codes": codes, "made": made, "flushed": flushed, "balanced": balanced(subject)}
    sys.stdout.write(f"{json.dumps(said)}\n")
    sys.stdout.flush()
    sys.stdin.readline()  # this process stays, and its writer adopts what the children left
    subject.close(30)


main()
