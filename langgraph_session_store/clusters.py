"""Groups of similar sessions, found in their texts.

How: texts become TF-IDF vectors (sublinear counts, no words that merely ask for a program, plurals folded), or embeddings; categorical
fields are appended with less weight. A singular value decomposition to as many dimensions as there are groups, scaled to unit length,
then k-means. That many dimensions make k-means find topics; in more of them rare words pull the groups apart.

How many: each number of groups is measured by its silhouette (cosine) in the undecomposed space, which is the same yardstick for all;
taken is the smallest from 2 to 12 that neither of the next two beats. The maximum itself would, on texts, be near one group per phrase.

Equal texts count once when groups are made, and rows are sorted first: neither repetition nor order changes what comes out.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from . import display
from .columns import TableColumn
from .errors import ConfigError
from .frames import drawing, extra, to_pandas
from .session import success_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from matplotlib.figure import Figure

_MOST: Final = 12  # groups that are tried
_TERMS: Final = 8  # of a group
_EXAMPLES: Final = 3
_RARE: Final = 50  # from so many texts on, a word of only one of them is left out
_MEASURED: Final = 2000  # texts that the silhouette is taken of
_DRAWN: Final = 1000  # points of a picture
_CATEGORY: Final = 0.5  # the length of what categories add to a text of length 1
_COLUMNS: Final = {"thread_id": "text", "cluster": "integer", "cluster_name": "text"}
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_URL: Final = re.compile(r"https?://\S+")
_PLURAL: Final = re.compile(r"(?<=ch|sh|ss)es$|(?<=[xzo])es$|(?<=[^sui])s$")
_ASKING: Final = frozenset(
    re.findall(
        r"\w+",
        "answer called calculate can check code compute could create design determine develop example find function "
        "get given help implement input let like make method need output please problem program provide python return "
        "returned script should solution solve take task use used using value want will would write",
    )
)
"""Words of requests rather than of topics, in the singular."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One group: its telling terms, how many sessions, the share that succeeded (None if none finished), typical texts."""

    number: int
    name: str
    terms: tuple[str, ...]
    size: int
    success_rate: float | None
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Clusters:
    """Groups of sessions, the largest first; ``silhouette`` (-1 to 1) says how well they fall apart, None for fewer than two."""

    groups: tuple[Cluster, ...]
    silhouette: float | None = None
    members: tuple[tuple[Any, int], ...] = field(default=(), repr=False)
    """Each row's thread_id and the number of its group, in the order of the rows."""
    points: tuple[tuple[tuple[float, ...], int, int], ...] = field(default=(), repr=False)
    """For the picture, of each distinct text: its place, the number of its group, its rows."""

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self.groups)

    def __getitem__(self, number: int) -> Cluster:
        return self.groups[number]

    def to_pandas(self) -> pd.DataFrame:
        """Return ``thread_id``, ``cluster`` (number) and ``cluster_name`` of each row: merge it with the rows on thread_id."""
        rows = (dict(zip(_COLUMNS, (*told, self.groups[told[1]].name), strict=True)) for told in self.members)
        return to_pandas(rows, [TableColumn(name, kind) for name, kind in _COLUMNS.items()])

    def plot(self) -> Figure:
        """Draw the sessions as points, the nearer the more alike, one look per group."""
        title = "Groups of similar sessions"
        if not self.points:
            return drawing.nothing(title, "No sessions with a text" if self.members else "No sessions")
        figure, (axes,) = drawing.canvas(8.5, 5)
        told = f"{len(self.members):,} sessions" + (f"; silhouette {self.silhouette:.2f}" if self.silhouette else "")
        drawing.heading(figure, title, f"{told}. Near means alike; the axes have no unit")
        points = self.points[:: len(self.points) // _DRAWN + 1]
        flat = _flattened([place for place, _, _ in points])
        for group in self.groups:
            placed = zip(flat, points, strict=True)
            mine = [(x, y, rows) for (x, y), (_, number, rows) in placed if number == group.number]
            name = f"{drawing.label(group.name)} ({group.size:,})"
            drawing.scatter(axes, mine, group.number, name if mine else f"{name}, no place")
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
        return figure

    def _repr_html_(self) -> str:
        head = ("group", "sessions", "success", "terms", "examples")
        rows = [
            (
                display.line(group.name),
                f"{group.size:,}",
                "-" if group.success_rate is None else display.line(display.percentage(group.success_rate)),
                display.line(", ".join(group.terms)),
                "<br>".join(map(display.line, group.examples)),
            )
            for group in self.groups
        ]
        measured = "" if self.silhouette is None else f", silhouette {self.silhouette:.2f}"
        caption = f"{len(self.groups)} groups of {len(self.members):,} sessions{measured}"
        return display.table(caption, head, rows, right=("sessions", "success"))


def cluster_sessions(
    rows: Any,
    *,
    text: str | Sequence[str] = ("user_prompt",),
    categorical: str | Sequence[str] = (),
    embeddings: Any = None,
    groups: int | None = None,
    seed: int = 0,
) -> Clusters:
    """Group *rows* (a page, a DataFrame, or any sessions) by their *text* and *categorical* fields.

    *embeddings* is a LangChain ``Embeddings`` that stands in for TF-IDF; it is asked once for all distinct texts. *groups* sets their
    number, which is measured otherwise. The same rows and *seed* give the same groups. Rows without a text have one of their own.
    Needs scikit-learn. ConfigError: the rows lack a field, or *groups* is less than 1.
    """
    if not text:
        raise ConfigError(
            "text names at least one field; groups of categories alone are what analytics(group_by=...) counts"
        )
    if groups is not None and groups < 1:
        raise ConfigError(f"groups is at least 1, not {groups}")
    fields = (text,) if isinstance(text, str) else tuple(text)
    kinds = (categorical,) if isinstance(categorical, str) else tuple(categorical)
    sessions = _records(rows)
    for name in (*fields, *kinds):
        if sessions and not any(name in session for session in sessions):
            raise ConfigError(f"the rows have no field {name}; there are {', '.join(map(str, sessions[0]))}")
    keys = [_key(session, fields, kinds) for session in sessions]
    distinct = sorted(set(keys))
    # more threads are slower on small matrices, and add in any order
    with extra("clusters", "threadpoolctl").threadpool_limits(1):
        found = _find(distinct, embeddings, groups, seed)
    return _told(sessions, keys, distinct, found)


def _flattened(places: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return places in the plane that keep who is near whom."""
    numpy = extra("clusters", "numpy")
    if len(places) < 5:  # noqa: PLR2004 - nothing to arrange
        return [(float(number), 0.0) for number in range(len(places))]
    perplexity = min(30, (len(places) - 1) / 3)
    tsne = extra("clusters", "sklearn.manifold").TSNE(perplexity=perplexity, init="pca", random_state=0)
    with extra("clusters", "threadpoolctl").threadpool_limits(1):
        return [(float(x), float(y)) for x, y in tsne.fit_transform(numpy.array(places))]


_Key = tuple[str, tuple[str, ...]]  # the text and the categories of a session


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found about distinct keys: group (-1: nothing to go by), place, and the terms with their weights."""

    labels: Any
    places: Any
    terms: Any
    names: Sequence[str]
    silhouette: float | None = None


def _records(rows: Any) -> list[Mapping[str, Any]]:
    """Return *rows* as mappings in which what pandas has for NULL is None."""
    if hasattr(rows, "to_dict") and hasattr(rows, "notna"):
        rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return list(rows)


def _key(session: Mapping[str, Any], fields: Iterable[str], kinds: Iterable[str]) -> _Key:
    texts = (session.get(name) for name in fields)
    values = (session.get(name) for name in kinds)
    return (
        "\n".join(text if isinstance(text, str) else display.as_text(text) for text in texts if text is not None),
        tuple("" if value is None else str(value) for value in values),
    )


def _words(text: str) -> list[str]:
    """Return the words of *text* that may tell a topic, in the singular."""
    common = extra("clusters", "sklearn.feature_extraction.text").ENGLISH_STOP_WORDS
    found = (word for word in _WORD.findall(_URL.sub(" ", text.lower())) if word not in common)
    return [word for word in map(_singular, found) if word not in _ASKING and word not in common]


def _singular(word: str) -> str:
    if len(word) <= 3:  # noqa: PLR2004 - bus, gas, yes
        return word
    return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else _PLURAL.sub("", word)  # noqa: PLR2004


def _find(keys: Sequence[_Key], embeddings: Any, groups: int | None, seed: int) -> _Found:
    numpy = extra("clusters", "numpy")
    terms, names = _terms([text for text, _ in keys])
    vectors = _with_categories(terms if embeddings is None else _embedded(keys, embeddings), keys)
    telling = vectors.getnnz(axis=1) > 0
    labels, places = numpy.full(len(keys), -1), numpy.zeros((len(keys), 0))
    silhouette = None
    if telling.any():
        labels[telling], silhouette, reduced = _grouped(vectors[telling], groups, seed)
        places = numpy.zeros((len(keys), reduced.shape[1]))
        places[telling] = reduced
    return _Found(labels, places, terms, names, silhouette)


def _terms(texts: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """Return TF-IDF vectors of length 1 (0 without a telling word), and the words that their columns stand for."""
    words = [_words(text) for text in texts]
    spread = Counter(word for each in words for word in set(each))
    often = len(texts) >= _RARE and any(count > 1 for count in spread.values())
    if not spread:
        return extra("clusters", "scipy.sparse").csr_matrix((len(texts), 1)), [""]
    vectorizer = extra("clusters", "sklearn.feature_extraction.text").TfidfVectorizer(
        analyzer=lambda each: each, min_df=2 if often else 1, max_features=20_000, sublinear_tf=True
    )
    return vectorizer.fit_transform(words), vectorizer.get_feature_names_out()


def _embedded(keys: Sequence[_Key], embeddings: Any) -> Any:
    """Return the embeddings of the texts at length 1, 0 for what has no text."""
    numpy, normalize = extra("clusters", "numpy"), extra("clusters", "sklearn.preprocessing").normalize
    texts = sorted({text for text, _ in keys if text.strip()})
    vectors = dict(zip(texts, embeddings.embed_documents(texts) if texts else [], strict=True))
    size = len(next(iter(vectors.values()), [0.0]))
    matrix = numpy.array([vectors.get(text, [0.0] * size) for text, _ in keys], dtype=float).reshape(len(keys), size)
    return extra("clusters", "scipy.sparse").csr_matrix(normalize(matrix))


def _with_categories(vectors: Any, keys: Sequence[_Key]) -> Any:
    """Append a column per value of each categorical field."""
    values = [{str(place): value for place, value in enumerate(kinds) if value} for _, kinds in keys]
    if not any(values):
        return vectors
    added = extra("clusters", "sklearn.feature_extraction").DictVectorizer().fit_transform(values)
    weight = _CATEGORY / len(keys[0][1]) ** 0.5
    return extra("clusters", "scipy.sparse").hstack([vectors, added * weight]).tocsr()


def _grouped(vectors: Any, groups: int | None, seed: int) -> tuple[Any, float | None, Any]:
    """Return group, silhouette and place of each of *vectors*; the places have as many dimensions as there are groups."""
    numpy, normalize = extra("clusters", "numpy"), extra("clusters", "sklearn.preprocessing").normalize
    size = vectors.shape[0]
    most = min(groups or min(_MOST + 2, size // 3), size)
    left, strength, _ = extra("clusters", "sklearn.utils.extmath").randomized_svd(
        vectors, max(2, most), random_state=seed
    )
    axes = left * strength
    most = min(most, len(numpy.unique(axes.round(6), axis=0)))
    sample = numpy.random.default_rng(seed).permutation(size)[:_MEASURED]

    def attempt(number: int) -> tuple[Any, float | None, Any]:
        places = normalize(axes[:, :number])
        means = extra("clusters", "sklearn.cluster").KMeans(number, n_init=10, random_state=seed)
        labels = means.fit(places).labels_
        return labels, _silhouette(vectors[sample], labels[sample]), places

    if groups is not None or most < 2:  # noqa: PLR2004
        labels, silhouette, _ = attempt(max(1, most)) if most > 1 else (numpy.zeros(size, int), None, None)
        return labels, silhouette, normalize(axes[:, : max(2, most)])
    tried = [attempt(number) for number in range(2, most + 1)]
    scores = [score if score is not None else -1.0 for _, score, _ in tried]
    peaks = (place for place in range(len(tried)) if scores[place] >= max(scores[place : place + 3]))
    labels, silhouette, places = tried[min(next(peaks), _MOST - 2)]
    return labels, silhouette, places


def _silhouette(vectors: Any, labels: Any) -> float | None:
    if not 1 < len(set(labels.tolist())) < vectors.shape[0]:
        return None
    measure = extra("clusters", "sklearn.metrics").silhouette_score
    return float(measure(vectors, labels, metric="cosine"))


def _told(
    sessions: Sequence[Mapping[str, Any]], keys: Sequence[_Key], distinct: Sequence[_Key], found: _Found
) -> Clusters:
    """Put the groups into words."""
    label_of = dict(zip(distinct, found.labels.tolist(), strict=True))
    sizes = Counter(label_of[key] for key in keys)
    order = sorted(sizes, key=lambda label: (label < 0, -sizes[label], label))
    number_of = {label: number for number, label in enumerate(order)}
    rows: dict[int, list[Mapping[str, Any]]] = {label: [] for label in order}
    for session, key in zip(sessions, keys, strict=True):
        rows[label_of[key]].append(session)
    repeated = Counter(keys)
    return Clusters(
        groups=tuple(_described(number_of[label], label, distinct, found, rows[label]) for label in order),
        silhouette=found.silhouette,
        members=tuple(
            (session.get("thread_id"), number_of[label_of[key]]) for session, key in zip(sessions, keys, strict=True)
        ),
        points=tuple(
            (tuple(place), number_of[label], repeated[key])
            for key, label, place in zip(distinct, found.labels.tolist(), found.places.tolist(), strict=True)
            if label >= 0
        ),
    )


def _described(
    number: int, label: int, distinct: Sequence[_Key], found: _Found, rows: Sequence[Mapping[str, Any]]
) -> Cluster:
    numpy = extra("clusters", "numpy")
    (mine,) = numpy.nonzero(found.labels == label)
    (told,) = numpy.nonzero(found.labels >= 0)
    terms: tuple[str, ...] = ()
    if label >= 0:
        weight = found.terms[mine].mean(axis=0) - found.terms[told].mean(axis=0) / 2
        weight = numpy.asarray(weight).ravel()
        best = sorted(range(len(weight)), key=lambda column: (-weight[column], column))[:_TERMS]
        terms = tuple(str(found.names[column]) for column in best if weight[column] > 0)
    nearest = sorted(mine, key=lambda row: (-float(found.places[row] @ found.places[mine].mean(axis=0)), row))
    texts = dict.fromkeys(distinct[row][0] for row in nearest if distinct[row][0])
    common = Counter(value for row in mine for value in distinct[row][1] if value).most_common(2)
    finished = [row for row in rows if row.get("workflow_status") in ("completed", "failed")]
    rate = success_rate(
        sum(row.get("tests_passed") is True or row.get("tests_passed") == 1 for row in finished), len(finished)
    )
    return Cluster(
        number=number,
        name=", ".join(terms[:3] or sorted(value for value, _ in common)) or ("(other)" if texts else "(no text)"),
        terms=terms,
        size=len(rows),
        success_rate=rate if any("tests_passed" in row for row in finished) else None,
        examples=tuple(texts)[:_EXAMPLES],
    )
