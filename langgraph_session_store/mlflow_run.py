"""Which MLflow run, and which trace, a graph run belongs to. MLflow is never imported, never asked over the network.

A process that has not imported MLflow cannot have an active run, so ``sys.modules`` is asked first. Its stack of active runs is kept
per OS thread: only a question in the caller's own thread gets the caller's run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

RUN_ID_KEY: Final = "mlflow_run_id"
"""The key of a config's metadata that names the run explicitly, which wins over everything."""

_VALID: Final = re.compile(r"[a-zA-Z0-9][\w\-]{0,254}")
"""MLflow's own rule for run ids (``mlflow/utils/validation.py``), shortened by one to fit our column."""

RunIdSource = str | Callable[[], str | None] | None


def resolve(metadata: Mapping[str, Any], configured: RunIdSource = None) -> str | None:
    """Return the MLflow run id for a run that starts in this thread now.

    In order: ``metadata["mlflow_run_id"]``, *configured* (a value or a callable), the thread's active run, the environment's
    ``MLFLOW_RUN_ID``. None where nothing is known; never raises.
    """
    return (
        named(metadata)
        or (configured and _valid(_configured(configured)))
        or active_run_id()
        or _valid(os.environ.get("MLFLOW_RUN_ID"))
        or None
    )


def named(metadata: Mapping[str, Any]) -> str | None:
    """Return the MLflow run that a config's *metadata* names, None without one."""
    return _valid(metadata[RUN_ID_KEY]) if RUN_ID_KEY in metadata else None


def active_run_id() -> str | None:
    """Return the id of MLflow's active run in this thread, None without one or without a whole MLflow."""
    if (fluent := sys.modules.get("mlflow.tracking.fluent")) is None:
        return None
    return _valid(getattr(getattr(_ask(fluent, "active_run"), "info", None), "run_id", None))


def active_trace_id() -> str | None:
    """Return the id of the MLflow trace that is open in this context, None without one."""
    if (fluent := sys.modules.get("mlflow.tracing.fluent")) is None:
        return None
    trace_id = _ask(fluent, "get_active_trace_id")
    return trace_id[:255] if isinstance(trace_id, str) and trace_id else None


def _ask(module: ModuleType, function: str) -> Any:
    # During another thread's first import the module is there but half made; after a partial uninstall it is an empty namespace.
    try:
        return getattr(module, function)()
    except Exception:
        return None


def _configured(source: RunIdSource) -> Any:
    try:
        return source() if callable(source) else source
    except Exception:
        return None


def _valid(run_id: Any) -> str | None:
    return run_id if isinstance(run_id, str) and _VALID.fullmatch(run_id) else None
