"""The filter vocabulary (``field__op=value``), shared by Python, REST and the command line.

From the bottom: `sqltypes` (values by their column's type), `paging` (conditions, order, cursors), `vocabulary` (filters to conditions).
"""

from .vocabulary import Vocabulary

__all__ = ["Vocabulary"]
