"""Rows beside the MLflow runs that they belong to."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, MissingExtraError
from ..redact import redact_text
from .tables import extra

if TYPE_CHECKING:
    import pandas as pd

_RUN_ID: Final = re.compile(r"[a-zA-Z0-9][\w-]{0,255}", re.ASCII)
"""What MLflow lets an id be; nothing that its filter would read."""
_RUNS_AT_ONCE: Final = 1000  # MLflow's filter parser refuses 5000


def with_mlflow(frame: pd.DataFrame, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return *frame* with the MLflow run of each row's ``run_id``: ``run_name``, ``params.<name>``, ``metrics.<name>``.

    Rows keep their order and index; those without a run, or whose run or experiment is deleted, have NA. A name that *frame* has
    already gets the suffix ``_mlflow``. *tracking_uri* defaults to MLflow's own, which is a new local file where nothing is configured:
    a warning says where it looked if it knows none of the runs. Needs pandas and mlflow.
    """
    pandas = extra("with_mlflow", "pandas")
    if "run_id" not in frame:
        raise ConfigError("with_mlflow needs the column run_id: add it to fields=")
    keys = [key if isinstance(key, str) else None for key in frame["run_id"]]
    runs = _mlflow_runs({key for key in keys if key is not None and _RUN_ID.fullmatch(key)}, tracking_uri)
    joined = [runs.get(key or "", {}) for key in keys]
    added = {}
    for name in sorted({name for run in runs.values() for name in run} | {"run_name"}, key=_run_column):
        kind = "Float64" if name.startswith("metrics.") else "string"
        unique = f"{name}_mlflow" if name in frame else name
        added[unique] = pandas.array([run.get(name) for run in joined], dtype=kind)
    found: pd.DataFrame = pandas.concat([frame, pandas.DataFrame(added, index=frame.index)], axis=1)
    return found


def _run_column(name: str) -> tuple[int, str]:
    return ("run_name", "params", "metrics").index(name.partition(".")[0]), name


def _mlflow_runs(run_ids: set[str], tracking_uri: str | None) -> dict[str, dict[str, Any]]:
    """Return the columns of the runs that exist, over all experiments."""
    try:
        from mlflow import MlflowClient, get_tracking_uri  # type: ignore[attr-defined,unused-ignore]  # not in mlflow-tracing
    except ImportError:
        raise MissingExtraError("with_mlflow", "mlflow") from None
    client, wanted, runs = MlflowClient(tracking_uri=tracking_uri), sorted(run_ids), {}
    experiments = _pages(client.search_experiments) if wanted else []
    places = [experiment.experiment_id for experiment in experiments]
    for start in range(0, len(wanted) if places else 0, _RUNS_AT_ONCE):
        chosen = ",".join(f"'{run_id}'" for run_id in wanted[start : start + _RUNS_AT_ONCE])
        for run in _pages(client.search_runs, places, f"attributes.run_id IN ({chosen})"):
            runs[run.info.run_id] = {
                "run_name": run.info.run_name,
                **{f"params.{name}": value for name, value in run.data.params.items()},
                **{f"metrics.{name}": value for name, value in run.data.metrics.items()},
            }
    if wanted and not runs:
        place = redact_text(tracking_uri or get_tracking_uri())
        told = (
            f"with_mlflow found none of {len(wanted):,} runs at {place}: set MLFLOW_TRACKING_URI or pass tracking_uri="
        )
        warnings.warn(told, stacklevel=3)
    return runs


def _pages(search: Any, *what: Any) -> list[Any]:
    found = list(page := search(*what))
    while page.token:
        found += (page := search(*what, page_token=page.token))
    return found
