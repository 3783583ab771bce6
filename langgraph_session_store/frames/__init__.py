"""Rows as Arrow and pandas, and as pictures; what each needs is imported when it is used.

From the bottom: `drawing` (the strokes that all plots share), `tables` (Arrow, pandas), `runs` (the join with MLflow), `plots` (the figures).
"""

from .runs import with_mlflow
from .tables import arrow_schema, extra, json_text, json_value, read_pandas, reader, to_arrow, to_pandas

__all__ = [
    "arrow_schema",
    "extra",
    "json_text",
    "json_value",
    "read_pandas",
    "reader",
    "to_arrow",
    "to_pandas",
    "with_mlflow",
]
