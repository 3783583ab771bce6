"""One process of a fleet: records runs until it is killed, and tells an oracle what it promised.

``<slot>.began`` gets a line before each run and ``<slot>.done`` one after it; what is in ``done`` was accepted and must
not be lost, what is in neither must not turn up.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from agent import Content, balanced, graph, log_everything, record, recorder


def main() -> None:
    options = json.loads(sys.argv[1])
    log_everything()
    oracle, slot = Path(options["oracle"]), options["slot"]
    began, done, wrong = (
        os.open(oracle / f"{slot}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for name in ("began", "done", "wrong")
    )
    subject = recorder(options["dsn"], options["schema"], options["spool"])
    runnable = subject.attach(graph())
    number, due = options["first"], time.monotonic()
    while number < options["last"]:
        number += 1
        thread = f"t-{random.randrange(options['threads'])}"
        os.write(began, f"{thread} {number}\n".encode())
        record(runnable, thread, Content(slot, number))
        os.write(done, f"{thread} {number} {time.monotonic_ns()}\n".encode())
        if number % 20 == 0 and not balanced(subject):
            os.write(wrong, f"unbalanced at {number}: {subject.stats()}\n".encode())
        due = max(due + options["pause"], time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))
    if options.get("drain"):
        subject.close(options["drain"])


main()
