"""Rows as Arrow and pandas, and as pictures; what each needs is imported when it is used.

From the bottom: `drawing` (the strokes that all plots share), `tables` (Arrow, pandas, the join with MLflow), `plots` (the figures).
"""

from .tables import arrow_schema, extra, json_text, read_pandas, reader, to_arrow, to_pandas, with_mlflow

__all__ = ["arrow_schema", "extra", "json_text", "read_pandas", "reader", "to_arrow", "to_pandas", "with_mlflow"]
