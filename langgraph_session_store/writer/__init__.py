"""The background writer: from the spool to the sink, without ever holding up the graph.

From the bottom: `stats` (the counters), `feed` (payloads as events), `delivery` (one batch to the sink, poison bisected out),
`pair` (two sinks as one), `intake` (where events come in), `pump` (one batch after another), `writer` (the thread and its life); `retry` tries
once more what was refused.
"""

from .delivery import Block, Poison, Retry, Sink, SinkError, Written
from .pair import PairedSink
from .stats import Durability, FlushReport, WriterStats
from .writer import Writer, drain

__all__ = [
    "Block",
    "Durability",
    "FlushReport",
    "PairedSink",
    "Poison",
    "Retry",
    "Sink",
    "SinkError",
    "Writer",
    "WriterStats",
    "Written",
    "drain",
]
