"""A server that accepts whatever the candidates send, answers what their clients want to hear, and keeps nothing.

python benchmarks/discard.py     prints its address and serves until its standard input ends
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCHES = (
    b'{"version":"0.12.0","batch_ingest_config":{"use_multipart_endpoint":true,"size_limit":100,"size_limit_bytes":20971520,'
    b'"scale_up_nthreads_limit":16,"scale_up_qsize_trigger":1000,"scale_down_nempty_trigger":4},'
    b'"instance_flags":{"zstd_compression_enabled":true}}'
)
ANSWERS = {  # by what the path ends with: status and body; all else is 200 and {}
    "/info": (200, BATCHES),
    "/runs/multipart": (202, b"{}"),
    "/runs/batch": (202, b"{}"),
    "/ingestion": (207, b'{"successes":[],"errors":[]}'),
    "/projects": (200, b'{"data":[{"id":"p","name":"bench"}]}'),
}


received: Counter[str] = Counter()
"""Bytes of bodies by path, which `/received` tells."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, one after the other."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1].partition("?")[0]
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    await reader.readexactly(size + 2)
                    received[path] += size
                await reader.readuntil(b"\r\n")
            else:
                received[path] += len(await reader.readexactly(int(headers.get("content-length", 0))))
            status, body = next((found for end, found in ANSWERS.items() if path.endswith(end)), (200, b"{}"))
            kind = "x-protobuf" if "protobuf" in headers.get("content-type", "") else "json"
            if path == "/received":
                body = json.dumps(received).encode()
            body = b"" if kind == "x-protobuf" else body
            writer.write(
                f"HTTP/1.1 {status} OK\r\ncontent-type: application/{kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
    writer.close()


async def serve() -> None:
    """Serve on a free port of the loopback until standard input ends."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 26)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def received_bytes(url: str) -> int:
    """Return how much the server at *url* has taken until now."""
    with urllib.request.urlopen(f"{url}/received") as told:  # noqa: S310 - the server below
        return sum(json.load(told).values())


@contextlib.contextmanager
def discarding_server() -> Iterator[str]:
    """Run the server in a process of its own; yield its address."""
    with subprocess.Popen(  # noqa: S603 - this file
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve())
