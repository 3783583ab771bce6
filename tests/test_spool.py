"""The spool: nothing that was appended is lost, nothing that was not is read, and the disk may do what it likes."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from langgraph_session_store.errors import SpoolError
from langgraph_session_store.spool import inspect, others
from langgraph_session_store.spool import queue as spool_module
from langgraph_session_store.spool.queue import Spool, spool_home
from langgraph_session_store.spool.segment import MAGIC, Damage, Frame, pack, scan
from langgraph_session_store.writer.intake import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langgraph_session_store.spool.journal import Journal, Orphan

BIG = 1 << 40
BETWEEN = [None, "rewind", "merge", "survey"]
"""What may happen between a read and its acknowledgement."""


def make(root: Path, **limits: Any) -> Spool:
    return Spool(root, **{"max_bytes": BIG, "min_free": 0, **limits})


def take_all(journal: Journal | MemoryQueue) -> list[bytes]:
    taken: list[bytes] = []
    while batch := journal.read(7, 10_000):
        taken += batch
        journal.acknowledge([])
    return taken


def abandon(spool: Spool) -> None:
    """Let go of the directory as the death of the process would."""
    spool.forget()


def adopt_all(root: Path) -> list[bytes]:
    taken = []
    for orphan in make(root).adopt():
        taken += take_all(orphan)
        orphan.finish()
    return taken


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.seg"))


def found(path: Path, size: int | None = None) -> list[Frame | Damage]:
    with path.open("rb") as file:
        return list(scan(file.fileno(), 0, path.stat().st_size if size is None else size))


# The frames


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=3000)), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_frames_come_back_as_they_were_packed(tmp_path: Path, frames: list[tuple[bytes, bytes]]) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"".join(pack(*frame) for frame in frames))
    assert [(frame.key, frame.payload) for frame in found(path)] == frames


def test_frames_longer_than_a_read_come_back(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    payloads = [b"a" * 300_000, b"b", b"c" * 1_000_000, b"d" * 262_144, b""]
    path.write_bytes(b"".join(pack(b"k", payload) for payload in payloads))
    assert [frame.payload for frame in found(path)] == payloads


PAYLOADS = [b'{"n": %d, "text": "%s"}' % (n, b"xyz" * n) for n in range(6)]
SEGMENT = b"".join(pack(b"thread-%d" % n, payload) for n, payload in enumerate(PAYLOADS))


def test_a_segment_cut_anywhere_gives_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    ends = [frame.end for frame in _frames(tmp_path)]
    for length in range(len(SEGMENT) + 1):
        path.write_bytes(SEGMENT[:length])
        items = found(path)
        whole = sum(end <= length for end in ends)
        assert [item.payload for item in items if isinstance(item, Frame)] == PAYLOADS[:whole]
        assert [item.kind for item in items if isinstance(item, Damage)] == ([] if length in (0, *ends) else ["torn"])


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    for bit in range(len(SEGMENT) * 8):
        data = bytearray(SEGMENT)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        items = found(path)
        payloads = [item.payload for item in items if isinstance(item, Frame)]
        assert len(payloads) == len(PAYLOADS) - 1, bit
        assert [payload for payload in PAYLOADS if payload in payloads] == payloads
        assert sum(isinstance(item, Damage) for item in items) == 1


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"noise" * 1000, MAGIC * 100, SEGMENT[:30]])
def test_garbage_in_the_middle_hides_nothing_behind_it(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "segment"
    path.write_bytes(SEGMENT + garbage + SEGMENT)
    items = found(path)
    assert [item.payload for item in items if isinstance(item, Frame)] == PAYLOADS * 2
    assert [item.kind for item in items if isinstance(item, Damage)] == ["corrupt"]


def test_a_tail_of_zeros_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(SEGMENT + b"\0" * 4096)
    assert [item.kind for item in found(path) if isinstance(item, Damage)] == ["torn"]


def _frames(tmp_path: Path) -> list[Frame]:
    path = tmp_path / "whole"
    path.write_bytes(SEGMENT)
    return [item for item in found(path) if isinstance(item, Frame)]


# The queue


def test_what_is_appended_is_read_in_order_and_once(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    payloads = [b"%d" % n for n in range(100)]
    for payload in payloads:
        spool.append(b"k", payload)
    assert take_all(spool) == payloads
    assert spool.read(10, 10) == []
    assert spool.counts.appended == spool.counts.settled == spool.counts.done == 100


def test_nothing_touches_the_disk_before_the_first_append(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    assert spool.read(1, 1) == []
    spool.survey()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_acknowledged_segments_are_unlinked_and_an_idle_spool_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 1000)
    monkeypatch.setattr(spool_module, "IDLE", 0.0)
    spool = make(tmp_path / "s")
    for n in range(50):
        spool.append(b"k", b"%03d" % n * 50)
    assert len(segments(tmp_path / "s")) > 5
    take_all(spool)
    assert len(segments(tmp_path / "s")) == 1  # the active one
    spool.survey()
    assert spool.read(1, 1) == []
    assert segments(tmp_path / "s") == []
    spool.append(b"k", b"again")
    assert take_all(spool) == [b"again"]
    spool.close()
    assert list((tmp_path / "s").iterdir()) == []


def test_directories_and_files_are_private(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    old = os.umask(0)
    try:
        spool.append(b"k", b"p")
    finally:
        os.umask(old)
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.lstat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_batch_is_bounded_in_number_and_bytes(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    for _ in range(100):
        spool.append(b"k", b"x" * 1000)
    assert len(spool.read(10, BIG)) == 10
    spool.acknowledge([])
    assert len(spool.read(1000, 5000)) == 5


def test_threads_may_append_while_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 5000)
    spool = make(tmp_path / "s")
    threads = [
        threading.Thread(target=lambda t=t: [spool.append(b"%d" % t, b"%d-%d" % (t, n)) for n in range(500)])
        for t in range(4)
    ]
    for thread in threads:
        thread.start()
    taken: list[bytes] = []
    while any(thread.is_alive() for thread in threads) or len(taken) < 2000:
        taken += take_all(spool)
    assert sorted(taken) == sorted(b"%d-%d" % (t, n) for t in range(4) for n in range(500))
    for t in range(4):
        assert [p for p in taken if p.startswith(b"%d-" % t)] == [b"%d-%d" % (t, n) for n in range(500)]


def test_an_append_from_inside_an_append_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make(tmp_path / "s")
    spool.append(b"k", b"first")
    real, errors = os.write, []

    def write(descriptor: int, data: bytes) -> int:
        try:
            spool.append(b"k", b"inner")
        except SpoolError as error:
            errors.append(error)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    spool.append(b"k", b"outer")
    assert len(errors) == 1
    assert take_all(spool) == [b"first", b"outer"]


def test_what_a_signal_handler_raises_in_an_append_leaves_the_spool_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path / "s")
    real = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        real(descriptor, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            spool.append(b"k", b"lost")
    spool.append(b"k", b"kept")
    assert take_all(spool) == [b"kept"]


def test_an_error_at_any_line_of_a_write_leaves_the_counters_with_the_file(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    spool.append(b"k", b"first")
    assert spool._active is not None
    segment, left = spool._active, 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code is not Spool._write.__code__:
            return None
        if event == "line":
            left -= 1
            if not left:
                raise KeyboardInterrupt
        return trace

    expected, before = [b"first"], sys.gettrace()
    for steps in range(1, 100):
        left = steps
        sys.settrace(trace)
        try:
            spool.append(b"k", b"interrupted")
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(before)
        if spool.counts.appended > len(expected):  # after the write: only the caller does not know
            expected.append(b"interrupted")
        assert (segment.frames, segment.upto, spool.counts.appended) == (len(expected),) * 3
        assert (segment.size, spool._bytes) == (segment.path.stat().st_size,) * 2
    assert steps > 5
    assert take_all(spool) == [*expected, b"interrupted"]


def test_sync_covers_what_was_appended_and_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (calls.append(1), real(descriptor)))
    spool = make(tmp_path / "s", durable=True)
    for _ in range(10):
        spool.append(b"k", b"p")
    spool.sync()
    spool.sync()
    assert len(calls) == 1
    spool.append(b"k", b"p")
    spool.sync()
    assert len(calls) == 2


# What a dead process leaves


def test_a_living_process_is_not_adopted_and_a_dead_one_is(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    spool.append(b"k", b"1")
    spool.append(b"k", b"2")
    assert list(make(root).adopt()) == []
    abandon(spool)
    assert adopt_all(root) == [b"1", b"2"]
    assert list(root.iterdir()) == []


def test_what_cannot_be_removed_is_adopted_once(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    spool.append(b"k", b"1")
    (segments(root)[0].parent / "somebody's file").touch()
    (root / "somebody's folder").mkdir()
    abandon(spool)
    other = make(root)
    for orphan in other.adopt():
        assert take_all(orphan) == [b"1"]
        orphan.finish()
    assert list(other.adopt()) == []
    assert list((root / "somebody's folder").iterdir()) == []


def test_only_one_process_adopts(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    spool.append(b"k", b"1")
    abandon(spool)
    first = list(make(root).adopt())
    assert len(first) == 1
    assert list(make(root).adopt()) == []
    first[0].release()
    assert adopt_all(root) == [b"1"]


def test_open_runs_outlive_the_segments_that_held_their_starts(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    for n in range(3):
        spool.append(b"k", b"%d" % n)
    spool.read(10, 1000)
    spool.acknowledge([b"run-1", b"run-2"])
    spool.close()
    (orphan,) = make(root).adopt()
    assert orphan.open_runs == [b"run-1", b"run-2"]
    assert take_all(orphan) == []
    orphan.finish()
    assert list(root.iterdir()) == []


def test_an_orphan_of_this_boot_is_known_as_such(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    spool.append(b"k", b"1")
    abandon(spool)
    (directory,) = root.iterdir()
    host, _, rest = directory.name.split("-", 2)
    for name, same in ((f"{host}-00000000-{rest}", False), (directory.name, True)):
        directory = directory.rename(root / name)
        (orphan,) = make(root).adopt()
        assert orphan.same_boot is same
        orphan.release()


@pytest.mark.parametrize("cut", [1, 10, 17])
def test_a_torn_tail_is_counted_and_harms_nothing_before_it(tmp_path: Path, cut: int) -> None:
    root = tmp_path / "s"
    spool = make(root)
    spool.append(b"k", b"whole")
    spool.append(b"k", b"torn")
    abandon(spool)
    (path,) = segments(root)
    os.truncate(path, path.stat().st_size - cut)
    (orphan,) = make(root).adopt()
    assert take_all(orphan) == [b"whole"]
    assert (orphan.counts.torn, orphan.counts.corrupt, orphan.counts.appended) == (1, 0, 1)


def test_corrupt_bytes_are_kept_aside_and_counted_as_unreadable(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    for n in range(3):
        spool.append(b"k", b"payload-%d" % n)
    abandon(spool)
    (path,) = segments(root)
    path.write_bytes(path.read_bytes().replace(b"payload-1", b"payload-X"))
    (orphan,) = make(root).adopt()
    assert take_all(orphan) == [b"payload-0", b"payload-2"]
    counts = orphan.counts
    assert (counts.appended, counts.settled, counts.unreadable, counts.corrupt) == (3, 3, 1, 1)
    (kept,) = (root / "quarantine").iterdir()
    assert b"payload-X" in kept.read_bytes()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert orphan.problems


def test_a_live_segment_that_is_damaged_keeps_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 200)
    root = tmp_path / "s"
    spool = make(root)
    for n in range(20):
        spool.append(b"k", b"payload-%02d" % n)
    path = segments(root)[0]
    path.write_bytes(path.read_bytes().replace(b"payload-01", b"payload-XX").replace(b"payload-02", b"payload-XX"))
    taken = take_all(spool)
    assert len(taken) == 18
    assert spool.counts.unreadable == 2
    assert spool.counts.settled == spool.counts.done == 20


def test_a_segment_of_a_newer_version_is_kept_aside(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root)
    spool.append(b"k", b"from the future")
    abandon(spool)
    (path,) = segments(root)
    data = bytearray(path.read_bytes())
    data[len(MAGIC)] = 9
    path.write_bytes(data)
    (orphan,) = make(root).adopt()
    assert take_all(orphan) == []
    assert "newer version" in orphan.problems["future"]
    assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [bytes(data)]


KILLED = """
    import os, sys
    from pathlib import Path
    from langgraph_session_store.spool.queue import Spool
    spool = Spool(Path(sys.argv[1]), min_free=0)
    n = 0
    while True:
        spool.append(b"k", b"%06d" % n + b"x" * (n % 5000))
        os.write(1, b"%06d\\n" % n)  # the oracle: written after append returned
        n += 1
"""


@pytest.mark.parametrize("lines", [1, 50, 1500])
def test_kill_9_loses_nothing_that_append_returned_for(tmp_path: Path, lines: int) -> None:
    root = tmp_path / "s"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    promised = [process.stdout.readline().strip() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    promised += process.stdout.read().split()
    process.wait()
    stored = [payload[:6] for payload in adopt_all(root)]
    assert stored[: len(promised)] == promised
    assert len(stored) <= len(promised) + 1
    assert [path.name for path in root.iterdir()] == []


def test_a_forked_child_neither_releases_nor_keeps_the_parents_lock(tmp_path: Path) -> None:
    root = tmp_path / "s"
    script = """
        import os, sys, time
        from pathlib import Path
        from langgraph_session_store.spool.queue import Spool
        spool = Spool(Path(sys.argv[1]), min_free=0)
        spool.append(b"k", b"parent")
        if os.fork() == 0:
            spool.forget()
            print("ready", flush=True)
            time.sleep(600)
        time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(root)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert adopt_all(root) == []
        process.kill()
        process.wait()
        assert adopt_all(root) == [b"parent"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)


# The disk


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[..., Any]) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fault)
        yield


def raising(number: int) -> Callable[..., Any]:
    def fault(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fault


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_write_that_fails_is_told_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    spool = make(tmp_path / "s")
    spool.append(b"k", b"before")
    with failing(monkeypatch, "write", raising(number)), pytest.raises(OSError, match=os.strerror(number)):
        spool.append(b"k", b"lost")
    spool.append(b"k", b"after")
    assert take_all(spool) == [b"before", b"after"]


@pytest.mark.parametrize("truncates", [True, False])
def test_a_short_write_leaves_no_half_frame_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncates: bool
) -> None:
    root = tmp_path / "s"
    spool = make(root)
    spool.append(b"k", b"before")
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
        if not truncates:
            patch.setattr(os, "ftruncate", raising(errno.EIO))
        with pytest.raises(OSError, match="short write"):
            spool.append(b"k", b"half")
    spool.append(b"k", b"after")
    assert take_all(spool) == [b"before", b"after"]
    assert spool.counts.corrupt == 0


def test_a_full_disk_is_found_when_a_segment_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "RETRY", 0.0)
    spool = make(tmp_path / "s", min_free=1 << 60)
    with pytest.raises(OSError, match="little disk"):
        spool.append(b"k", b"lost")
    spool._min_free = 0
    spool.append(b"k", b"kept")
    assert take_all(spool) == [b"kept"]


def test_a_directory_that_is_deleted_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(spool_module, "ROLL", 100)
    root = tmp_path / "s"
    spool = make(root)
    for n in range(10):
        spool.append(b"k", b"old-%d" % n)
    shutil.rmtree(root)
    spool.survey()
    for n in range(10):
        spool.append(b"k", b"new-%d" % n)
    taken = take_all(spool)
    assert [payload for payload in taken if payload.startswith(b"new")] == [b"new-%d" % n for n in range(10)]
    counts = spool.counts
    assert counts.appended == counts.settled == counts.done == 20
    assert counts.vanished == 20 - len(taken)
    assert b"old-9" in taken  # the active segment is still open, deleted or not


def test_sealed_segments_that_vanish_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 100)
    root = tmp_path / "s"
    spool = make(root)
    for n in range(10):
        spool.append(b"k", b"old-%d" % n)
    segments(root)[1].unlink()
    taken = take_all(spool)
    assert spool.counts.vanished == 10 - len(taken) > 0
    assert spool.counts.settled == spool.counts.done == 10


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720])
def test_a_spool_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "s"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(SpoolError, match="chmod 700"):
        make(root).append(b"k", b"p")
    assert list(make(root).adopt()) == []


def test_a_spool_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "s"
    root.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(SpoolError, match="another user"):
        make(root).append(b"k", b"p")


def test_a_link_in_place_of_the_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match="no directory"):
        make(tmp_path / "s").append(b"k", b"p")


# Its size


def test_a_full_spool_refuses_and_names_what_it_lost(tmp_path: Path) -> None:
    root = tmp_path / "s"
    spool = make(root, max_bytes=5000)
    for _ in range(4):
        spool.append(b"k", b"x" * 1000)
    with pytest.raises(SpoolError, match="full"):
        spool.append(b"k", b"x" * 1000)
    spool.lose(b"thread-7", "dropped")
    abandon(spool)
    adopt_all(root)
    (ledger,) = (root / "losses").iterdir()
    assert b"dropped thread-7" in ledger.read_bytes()


def test_the_size_of_other_processes_counts(tmp_path: Path) -> None:
    root = tmp_path / "s"
    other = make(root)
    other.append(b"k", b"x" * 100_000)
    spool = make(root, max_bytes=150_000)
    spool.append(b"k", b"x")
    spool.survey()
    assert spool.bytes > 100_000
    with pytest.raises(SpoolError, match="full"):
        spool.append(b"k", b"x" * 100_000)


def test_merging_makes_room_and_keeps_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 10_000)
    root = tmp_path / "s"
    spool = make(root)
    for n in range(1000):
        spool.append(b"%d" % (n % 10), b"%04d" % n * 20)
    before = spool.bytes
    assert len(spool.read(5, BIG)) == 5
    spool.acknowledge([])
    spool.merge(lambda payloads: [max(payloads)])
    assert spool.bytes < before / 3
    assert sum(path.stat().st_size for path in segments(root)) == spool.bytes
    done = spool.counts.done
    taken = take_all(spool)
    assert {payload[:4] for payload in taken} >= {b"%04d" % n for n in range(990, 1000)}
    counts = spool.counts
    assert done == 5
    assert counts.settled == counts.done == counts.appended == 1000
    assert counts.merged + len(taken) + 5 == 1000


def test_a_merge_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 1000)
    spool = make(tmp_path / "s")
    payloads = [b"%04d" % n * 20 for n in range(100)]
    for payload in payloads:
        spool.append(b"k", payload)
    spool.merge(lambda payloads: [bytes(int(payloads[0][:1] + b"x"))])
    monkeypatch.setattr(spool_module, "MAX_PAYLOAD", 100)
    spool.merge(lambda payloads: [b"".join(payloads)])
    assert take_all(spool) == payloads


def test_merged_segments_are_adopted_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 1000)
    root = tmp_path / "s"
    spool = make(root)
    for n in range(100):
        spool.append(b"k", b"%04d" % n * 20)
    spool.merge(lambda payloads: [max(payloads)])
    abandon(spool)
    assert b"0099" * 20 in adopt_all(root)


def test_the_memory_queue_is_bounded(tmp_path: Path) -> None:
    queue = MemoryQueue(most=3, most_bytes=100)
    for _ in range(3):
        queue.append(b"x")
    with pytest.raises(SpoolError):
        queue.append(b"x")
    assert take_all(queue) == [b"x"] * 3
    with pytest.raises(SpoolError):
        queue.append(b"x" * 101)
    assert queue.counts.appended == queue.counts.done == 3


def test_the_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere/state")
    assert spool_home() == Path("/somewhere/state/langgraph-session-store")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert spool_home() == Path.home() / ".local/state/langgraph-session-store"


# All together, against a model


class SpoolMachine(RuleBasedStateMachine):
    """Any order of appends, reads, crashes, faults: what was promised comes back, and nothing else does."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "s"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(spool_module, "ROLL", 400)
        self.patch.setattr(spool_module, "IDLE", 0.0)
        self.patch.setattr(spool_module, "RETRY", 0.0)
        self.spool = make(self.root)
        self.orphans: list[Orphan] = []
        self.promised: set[bytes] = set()
        self.delivered: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.number = 0

    def teardown(self) -> None:
        self.patch.undo()
        self.deliver(self.spool)
        self.adopt()
        while self.orphans:
            self.drain()
        assert self.promised <= self.delivered
        assert not self.delivered & self.refused
        self.spool.close()
        assert list(self.root.glob("*-*")) == []
        self.folder.cleanup()

    @rule(size=st.integers(0, 300), fault=st.sampled_from([None, None, None, errno.ENOSPC, errno.EIO, "short"]))
    def append(self, size: int, fault: int | str | None) -> None:
        self.number += 1
        payload = b"%d:" % self.number + b"x" * size
        real = os.write
        with pytest.MonkeyPatch.context() as patch:
            if fault == "short":
                patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: len(data) // 2]))
            elif fault is not None:
                patch.setattr(os, "write", raising(int(fault)))
            try:
                self.spool.append(b"k%d" % (self.number % 3), payload)
            except OSError:
                self.refused.add(payload)
            else:
                self.promised.add(payload)

    @rule(most=st.integers(1, 5), acknowledge=st.booleans(), ahead=st.integers(0, 3), between=st.sampled_from(BETWEEN))
    def deliver(
        self, source: Any = None, most: int = 5, acknowledge: bool = True, ahead: int = 0, between: str | None = None
    ) -> None:
        source = source or self.spool
        read: deque[list[bytes]] = deque()
        back = between == "rewind"
        while True:
            while len(read) <= ahead and (batch := source.read(most, 500)):
                read.append(batch)
            if not read:
                return None
            if between == "rewind":
                back = not back
                if not back:  # every other time
                    source.rewind()
                    read.clear()
                    continue
            elif between is not None and source is self.spool:
                getattr(self, between)()
            self.delivered.update(part for payload in read.popleft() for part in payload.split(b"|"))
            if not acknowledge:
                return self.crash()
            source.acknowledge([])

    @rule()
    def survey(self) -> None:
        self.spool.survey()

    @rule()
    def merge(self) -> None:
        self.spool.merge(lambda payloads: [b"|".join(payloads)])

    @rule()
    def crash(self) -> None:
        self.spool.forget()
        self.spool = make(self.root)

    @rule()
    def close(self) -> None:
        self.spool.close()
        self.spool = make(self.root)

    @rule()
    def adopt(self) -> None:
        self.orphans += list(self.spool.adopt())

    @precondition(lambda self: self.orphans)
    @rule()
    def drain(self) -> None:
        orphan = self.orphans.pop()
        self.deliver(orphan)
        orphan.finish()

    @precondition(lambda self: self.orphans)
    @rule()
    def release(self) -> None:
        self.orphans.pop().release()

    @invariant()
    def account(self) -> None:
        counts = self.spool.counts
        assert 0 <= counts.done <= counts.appended
        assert counts.settled <= counts.appended
        assert (counts.vanished, counts.unreadable, counts.corrupt, counts.torn) == (0, 0, 0, 0)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=int(os.environ.get("LGSS_EXAMPLES", "100")), stateful_step_count=30, deadline=None
)


def test_a_reader_knows_whether_more_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 100)
    spool = make(tmp_path / "s")
    spool.append(b"k", b"x" * 60)
    assert len(spool.read(10, BIG)) == 1
    assert not spool.more
    spool.append(b"k", b"x" * 60)
    assert len(list(spool.root.glob("*/*.seg"))) == 2
    assert spool.more
    spool.acknowledge([])
    assert len(spool.read(10, BIG)) == 1
    assert not spool.more
    spool.close()
    memory = MemoryQueue(10, BIG)
    for payload in (b"a", b"b"):
        memory.append(payload)
    assert memory.read(1, BIG) == [b"a"]
    assert memory.more
    memory.rewind()
    assert memory.read(2, BIG) == [b"a", b"b"]
    assert not memory.more


# --- looking from outside ---


def test_inspection_tells_the_dead_from_the_living_and_whose_the_spool_is(tmp_path: Path) -> None:
    root = tmp_path / "one"
    empty = inspect(root)
    assert (empty.live, empty.dead, empty.payloads, empty.owner, empty.firsts) == (0, 0, 0, None, ())
    dead, live = make(root, owner="table t, host h"), make(root, owner="table t, host h")
    dead.append(b"k", b"first")
    dead.append(b"k", b"second")
    abandon(dead)
    live.append(b"k", b"third")
    seen = inspect(root)
    assert (seen.live, seen.dead, seen.payloads, seen.owner) == (1, 1, 3, "table t, host h")
    assert sorted(seen.firsts) == [b"first", b"third"]
    assert 0 < seen.left_bytes < seen.pending_bytes
    assert replace(inspect(root), free_bytes=0) == replace(seen, free_bytes=0)  # looking changes nothing
    (beside,) = others(tmp_path / "two")
    assert (beside.folder, beside.owner, beside.pending_bytes) == (root, "table t, host h", seen.pending_bytes)
    assert others(root) == []
    root.chmod(0o777)
    assert others(tmp_path / "two") == []  # somebody else may have written what its lock says
    live.close()


def test_inspection_counts_what_was_lost_and_put_aside(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    spool.append(b"k", b"kept")
    spool.lose(b"thread-1", "dropped")
    (segment,) = spool.root.glob("*/*.seg")
    with segment.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    spool.append(b"k", b"behind the damage")
    assert take_all(spool) == [b"behind the damage"]
    seen = inspect(spool.root)
    assert seen.quarantined == 1
    assert ["dropped" in line and "thread-1" in line for line in seen.losses] == [True]
    spool.close()
