"""doctor finds what is wrong and says how to repair it; drain stores what dead processes left."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from chaos.fleet import until
from proxy import reserve
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from test_original_table import connected, make
from typer.testing import CliRunner

from langgraph_session_store.cli import app, checks_database, checks_machine
from langgraph_session_store.row import dumps
from langgraph_session_store.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langgraph_session_store.store import SessionStore

Findings = dict[str, Any]


@pytest.fixture
def run(dsn: str, schema: str, tmp_path: Path) -> Callable[..., Any]:
    def call(*words: str, dsn: str = dsn) -> Any:
        env = {"DATABASE_URL": dsn, "XDG_STATE_HOME": str(tmp_path), "FORCE_COLOR": None}
        return CliRunner(env=env).invoke(app, [*words, "--schema", schema])

    return call


@pytest.fixture
def check(run: Callable[..., Any]) -> Callable[..., tuple[int, Findings]]:
    """Run doctor; return its exit code and the worst finding of each check."""

    def call(*words: str, **more: str) -> tuple[int, Findings]:
        result = run("doctor", "--json", *words, **more)
        answer = json.loads(result.stdout)
        assert answer["ok"] == (result.exit_code == 0)
        order = ["ok", "note", "warning", "problem"]
        worst: Findings = {}
        for finding in sorted(answer["findings"], key=lambda finding: order.index(finding["status"])):
            worst[finding["check"]] = finding
        return result.exit_code, worst

    return call


@pytest.fixture
def folder(store: SessionStore, schema: str, tmp_path: Path) -> Path:
    return tmp_path / "langgraph-session-store" / store.target.key(schema, store.table.name)


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    spool = Spool(folder)
    yield spool
    spool.close()


def event(store: SessionStore, thread_id: str, **columns: object) -> tuple[bytes, bytes]:
    row = store._event(thread_id, {"topic": "spooled"}, columns)
    return thread_id.encode(), dumps(row)


def test_all_is_well_after_init(check: Any, run: Any) -> None:
    assert run("init").exit_code == 0
    code, findings = check()
    assert code == 0
    assert {finding["status"] for finding in findings.values()} <= {"ok", "note"}
    assert {"program", "connection", "server", "pooler", "clock", "schema", "rights", "spool", "mlflow"} <= set(
        findings
    )
    assert run("doctor").stdout.startswith("ok\tprogram\t")


def test_a_table_that_is_missing_or_old_is_repaired_by_init(check: Any, run: Any, dsn: str, schema: str) -> None:
    code, findings = check()
    assert (code, findings["schema"]["fix"]) == (1, f"session-store init --schema {schema}")
    run("init")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP INDEX "{schema}".idx_session_states_topic')
        connection.execute(f'ALTER TABLE "{schema}".session_states DROP COLUMN difficulty CASCADE')
    code, findings = check()
    assert (code, findings["schema"]["status"]) == (1, "problem")
    assert "add_columns" in findings["schema"]["message"]
    with psycopg.connect(dsn) as connection:
        (columns,) = connection.execute(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = %s AND column_name = 'difficulty'",
            [schema],
        ).fetchone() or (None,)
    assert columns == 0, "doctor changes nothing"
    run("init")
    assert check()[0] == 0


def test_a_field_of_another_type_is_told_with_its_repair(check: Any, run: Any, dsn: str, schema: str) -> None:
    run("init")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP VIEW "{schema}".session_states_summary')
        connection.execute(f'ALTER TABLE "{schema}".session_states ALTER code_attempts TYPE text')
    code, findings = check()
    assert code == 1
    assert "ALTER" in findings["schema"]["message"] + (findings["schema"]["fix"] or "")


def test_rights_are_checked_for_the_role(check: Any, run: Any, dsn: str, schema: str) -> None:
    run("init")
    role = f"weak_{schema}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}"')
        try:
            connection.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"')
            weak = make_conninfo(dsn, options=f"-crole={role}")
            code, findings = check(dsn=weak)
            assert (code, findings["rights"]["status"]) == (1, "problem")
            connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"')
            code, findings = check(dsn=weak)
            assert (code, findings["rights"]["status"]) == (0, "warning")
            assert check("--strict", dsn=weak)[0] == 1
            connection.execute(findings["rights"]["fix"].encode())
            assert check(dsn=weak)[1]["rights"]["status"] == "note", "the fix that it prints is one"
        finally:
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')


def test_a_role_that_records_and_does_not_erase_is_as_it_should_be(check: Any, run: Any, dsn: str, schema: str) -> None:
    run("init")
    role = f"writer_{schema}"
    table = f'"{schema}".session_states'
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f'CREATE ROLE "{role}"; GRANT USAGE ON SCHEMA "{schema}" TO "{role}";'
            f'GRANT SELECT, INSERT, UPDATE ON {table} TO "{role}"; GRANT SELECT, INSERT ON {table}_versions TO "{role}";'
            f'GRANT SELECT ON {table}_erased TO "{role}"'
        )
        try:
            code, findings = check(dsn=make_conninfo(dsn, options=f"-crole={role}"))
            assert (code, findings["rights"]["status"]) == (0, "note")
            assert findings["rights"]["message"] == f"{role} may read and record, and not erase"
        finally:
            connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_the_original_project_s_table_is_told(check: Any, run: Any, dsn: str, schema: str) -> None:
    with connected(dsn, schema) as connection:
        make(connection)
    code, findings = check()
    assert (code, findings["schema"]["fix"]) == (1, f"session-store init --schema {schema}")
    assert "upgraded in place" in findings["schema"]["message"]
    run("init")
    assert check()[0] == 0


def test_a_server_that_takes_no_writes_is_a_problem(check: Any, run: Any, dsn: str) -> None:
    run("init")
    code, findings = check(dsn=make_conninfo(dsn, options="-cdefault_transaction_read_only=on"))
    assert (code, findings["server"]["status"]) == (1, "problem")


def test_without_a_database_the_rest_is_checked_and_no_password_told(check: Any, run: Any) -> None:
    away = "postgresql://me:hunter2@127.0.0.1:1/x"
    code, findings = check(dsn=away)
    assert (code, findings["connection"]["status"]) == (1, "problem")
    assert {"spool", "mlflow"} <= set(findings)
    assert "hunter2" not in run("doctor", dsn=away).output
    code, findings = check(dsn="postgresql://me:hunt@er2@h/x")
    assert (code, findings["settings"]["status"]) == (1, "problem")


def test_a_clock_that_differs_is_a_warning(check: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init")
    late = checks_database.time.time() - 3600
    monkeypatch.setattr(checks_database.time, "time", lambda: late)
    code, findings = check()
    assert (code, findings["clock"]["status"]) == (0, "warning")
    assert "1h 00m ahead" in findings["clock"]["message"]


def test_mlflow_distributions_that_break_one_another_are_a_problem(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"mlflow": "3.11.0", "mlflow-skinny": "3.2.0"}
    monkeypatch.setattr(checks_machine, "_version", versions.get)
    assert check()[1]["mlflow"]["status"] == "problem"
    versions.clear()
    assert check()[1]["mlflow"]["status"] == "note"


@pytest.mark.requires("pgbouncer")
def test_a_pooler_in_between_is_noticed(check: Any, run: Any, dsn: str, tmp_path: Path) -> None:
    run("init")
    given = conninfo_to_dict(dsn)
    user = Path(str(given["host"])).owner() if str(given["host"]).startswith("/") else "nobody"
    reserved = reserve()
    port = reserved.getsockname()[1]
    config = Path("/tmp") / f"lgss-bouncer-{port}.ini"  # the user that it runs as may not enter tmp_path
    behind = " ".join(f"{name}={value}" for name, value in given.items())
    config.write_text(
        f"[databases]\nx = {behind}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
        "pool_mode = transaction\nunix_socket_dir =\n"
    )
    words = ["pgbouncer", *(["-u", user] if os.geteuid() == 0 else []), str(config)]
    path = f"{os.environ['PATH']}:/usr/sbin"
    bouncer = subprocess.Popen(words, env={**os.environ, "PATH": path}, stderr=subprocess.DEVNULL)
    try:
        through = f"host=127.0.0.1 port={port} dbname=x user={given['user']}"
        until(lambda: bouncer.poll() is not None or check(dsn=through)[1]["connection"]["status"] == "ok")
        code, findings = check(dsn=through)
        assert (code, findings["pooler"]["status"]) == (0, "note")
        assert run("list", dsn=through).exit_code == 0
    finally:
        bouncer.terminate()
        bouncer.wait(120)
        config.unlink()
        reserved.close()


# --- the spool ---


def test_doctor_tells_what_waits_and_what_was_lost(
    check: Any, run: Any, store: SessionStore, spool: Spool, folder: Path
) -> None:
    run("init")
    spool.append(*event(store, "s-1", workflow_status="completed"))
    spool.append(*event(store, "s-2", workflow_status="running"))
    spool.lose(b"s-3", "full")
    code, findings = check()
    assert (code, findings["spool"]["status"]) == (0, "note"), "its process lives"
    assert findings["spool"]["message"].startswith("2 events wait")
    assert "s-3" in findings["losses"]["message"]
    spool.close()
    (folder / "quarantine").mkdir(mode=0o700)
    (folder / "quarantine" / "poison-1").write_bytes(b"x")
    code, findings = check()
    assert (code, findings["spool"]["status"], findings["spool"]["fix"]) == (0, "warning", "session-store drain")
    assert findings["quarantine"]["status"] == "warning"


def test_a_spool_that_others_may_write_to_is_a_problem(check: Any, run: Any, folder: Path) -> None:
    run("init")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    code, findings = check()
    assert (code, findings["spool"]["status"]) == (1, "problem")
    assert "chmod 700" in findings["spool"]["message"] + (findings["spool"]["fix"] or "")


def test_drain_stores_what_a_dead_process_left(run: Any, store: SessionStore, spool: Spool, folder: Path) -> None:
    run("init")
    spool.append(*event(store, "s-1", workflow_status="completed"))
    spool.append(*event(store, "s-2", workflow_status="running"))
    alive = json.loads(run("drain", "--json").stdout)
    assert (alive["accepted"], alive["live_processes"]) == (0, 1), "the living store their own"
    spool.close()
    drained = json.loads(run("drain", "--json").stdout)
    assert (drained["pending"], drained["quarantined"], drained["abandoned"]) == (0, 0, 1)
    assert drained["accepted"] == drained["stored"] + drained["superseded"]
    assert store.get("s-1")["topic"] == "spooled"
    assert store.get("s-2")["workflow_status"] == "abandoned"
    assert not list(folder.glob("*/*.seg"))
    assert run("drain").stdout.startswith("Nothing to store")


def test_drain_writes_many_events_on_two_connections(
    run: Any, store: SessionStore, spool: Spool, dsn: str, schema: str
) -> None:
    run("init")
    with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}") as connection:
        connection.execute("CREATE TABLE who (backend integer)")
        connection.execute(
            f"CREATE FUNCTION {schema}.who() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN INSERT INTO {schema}.who VALUES (pg_backend_pid()); RETURN NULL; END'".encode()
        )
        connection.execute(
            "CREATE TRIGGER who AFTER INSERT ON session_states FOR EACH STATEMENT EXECUTE FUNCTION who()"
        )
        for number in range(100):
            spool.append(*event(store, f"s-{number}", workflow_status="completed"))
        spool.close()
        assert run("drain").stdout == "Drained 100 events: 100 stored\n"
        assert connection.execute("SELECT count(DISTINCT backend) FROM who").fetchone() == (2,)


def test_drain_that_runs_out_of_time_says_what_is_left(
    run: Any, store: SessionStore, spool: Spool, folder: Path
) -> None:
    run("init")
    spool.append(*event(store, "s-1", workflow_status="completed"))
    spool.close()
    assert "Would store" in run("drain", "--dry-run").stdout
    assert json.loads(run("drain", "--dry-run", "--json").stdout)["left_bytes"] > 0
    given_up = run("drain", "--timeout", "0")
    assert given_up.exit_code == 1
    assert "session-store doctor" in given_up.stderr
    assert list(folder.glob("*/*.seg"))
    done = run("drain")
    assert (done.exit_code, done.stdout) == (0, "Drained 1 event: 1 stored\n")
    assert "Nothing to store" in run("drain", "--dry-run").stdout


def test_drain_into_a_table_that_is_missing_loses_nothing(
    run: Any, store: SessionStore, spool: Spool, folder: Path
) -> None:
    spool.append(*event(store, "s-1"))
    spool.close()
    result = run("drain")
    assert result.exit_code == 4
    assert "session-store init" in result.stderr
    assert list(folder.glob("*/*.seg"))


def test_drain_and_doctor_say_that_other_spools_wait(run: Any, check: Any, store: SessionStore, folder: Path) -> None:
    run("init")
    other = Spool(folder.with_name("other"), owner="table tickets, host elsewhere")
    other.append(*event(store, "s-1"))
    other.close()
    told = run("drain").stderr
    assert "1 other spool" in told
    assert "tickets" in told
    assert "tickets" in check()[1]["spool"]["message"]
