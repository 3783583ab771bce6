"""An agent that solves coding problems: it plans one, writes a solution, runs the tests and tries again."""

from .authors import Author, ModelAuthor, ReferenceAuthor, choose_author
from .graph import ProblemState, build_graph
from .problems import Entry, Problem, load_entries, spread

__all__ = [
    "Author",
    "Entry",
    "ModelAuthor",
    "Problem",
    "ProblemState",
    "ReferenceAuthor",
    "build_graph",
    "choose_author",
    "load_entries",
    "spread",
]
