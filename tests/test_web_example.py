"""examples/problems_api.py, served by uvicorn: a request is a run, and a run is a row."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psycopg
import pytest
from proxy import reserve

pytest.importorskip("mlflow")
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.timeout(600)
def test_a_request_is_a_run_and_a_row(dsn: str, schema: str, tmp_path: Path) -> None:
    reserved = reserve()
    port = reserved.getsockname()[1]
    environ = {
        **os.environ,
        "DATABASE_URL": dsn,
        "PGOPTIONS": f"-c search_path={schema}",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    for key in [name for name in environ if name.endswith("_API_KEY")]:
        del environ[key]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "problems_api:app", "--port", str(port)]
    prompts = [json.loads(line)["prompt"] for line in (EXAMPLES / "problems.jsonl").read_text().splitlines()]
    log = tmp_path / "log"
    with log.open("w") as out, subprocess.Popen(command, env=environ, cwd=tmp_path, stderr=out, stdout=out) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
                while "running on" not in log.read_text():
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
                answers = [client.post("/problems/verified", json={"prompt": prompt}) for prompt in prompts[:4]]
                assert [answer.status_code for answer in answers] == [200] * 4, log.read_text()
                made = [answer.json() for answer in answers]
                assert client.post("/problems/verified", json={"prompt": "unheard of"}).status_code == 404
                row = client.get(f"/sessions/api/sessions/{made[0]['thread_id']}")
                assert row.status_code == 200, log.read_text()
                assert row.json()["code"] == made[0]["code"]
                assert client.get("/sessions/").status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
            reserved.close()
    with psycopg.connect(dsn) as conn:
        stored = conn.execute(
            f"SELECT thread_id, run_id, tests_passed, workflow_status FROM {schema}.session_states"
        ).fetchall()
    expected = {
        (one["thread_id"], one["run_id"], one["tests_passed"], "completed" if one["tests_passed"] else "failed")
        for one in made
    }
    assert set(stored) == expected
