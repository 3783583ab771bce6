"""The public surface: what is exported, as what, and with which types."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import langgraph_session_store as lgss
from langgraph_session_store import AsyncSessionStore, SessionStore, SessionStoreError, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SNAPSHOT = HERE / "public_api.txt"


def test_all_is_sorted_and_is_what_can_be_seen() -> None:
    assert lgss.attach  # which is loaded when it is asked for
    modules = {name for name, value in vars(lgss).items() if inspect.ismodule(value)}
    visible = {name for name in vars(lgss) if not name.startswith("_")} - modules - {"Any", "TYPE_CHECKING"}
    assert sorted(visible) == lgss.__all__


def interface() -> Iterator[str]:
    """Yield a line for every public name and every public method or property, with its arguments and their types."""
    for name in lgss.__all__:
        thing = getattr(lgss, name)
        if not inspect.isclass(thing):
            yield f"{name}{inspect.signature(thing)}"
            continue
        model = issubclass(thing, lgss.SessionRecord)
        ours = _is_ours(getattr(thing, "__init__", None))
        told = f"{list(thing.model_fields)}" if model else str(inspect.signature(thing)) if ours else ""
        yield f"class {name}({', '.join(base.__name__ for base in thing.__bases__)}) {told}".rstrip()
        for member, value in inspect.getmembers(thing):
            if member.startswith(("_", "on_")):
                continue
            if inspect.isroutine(value) and _is_ours(value):
                yield f"  {member}{inspect.signature(value)}"
            elif isinstance(value, property) and _is_ours(value.fget):
                yield f"  {member}: property"


def _is_ours(function: object) -> bool:
    """Tell whether a method is written in this package, not by a base of somebody else's."""
    return getattr(function, "__globals__", {}).get("__name__", "").startswith("langgraph_session_store")


def test_the_interface_is_the_one_that_was_agreed_on() -> None:
    """A change that is meant: write it down by `python tests/test_public_api.py`, and in CHANGELOG.md."""
    assert list(interface()) == SNAPSHOT.read_text(encoding="utf-8").splitlines()


def test_classes_say_their_public_path() -> None:
    classes = [getattr(lgss, name) for name in lgss.__all__ if inspect.isclass(getattr(lgss, name))]
    assert {kind.__module__ for kind in classes} == {"langgraph_session_store"}


def test_every_error_is_in_the_tree_that_its_module_draws() -> None:
    tree = errors.__doc__ or ""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(kind, SessionStoreError) for kind in kinds)
    assert all(kind.__name__ in tree for kind in kinds)
    assert {kind.__name__ for kind in kinds} <= set(lgss.__all__)


def test_both_stores_have_the_same_names_and_arguments() -> None:
    def surface(store: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(store, inspect.isfunction)
        return {name: list(inspect.signature(m).parameters) for name, m in methods if not name.startswith("_")}

    assert surface(SessionStore) == surface(AsyncSessionStore)


def test_everything_public_is_documented() -> None:
    for name in lgss.__all__:
        thing = getattr(lgss, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for method, value in vars(thing).items():
                if not method.startswith("_") and inspect.isfunction(value):
                    assert inspect.getdoc(value), f"{name}.{method}"


def test_readers_do_not_wait_for_langgraph() -> None:
    program = "import sys, langgraph_session_store as s; s.SessionStore; print('langgraph' in sys.modules); s.attach"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_types_as_users_see_them() -> None:
    program = [sys.executable, "-m", "mypy", "--strict", str(HERE / "typing" / "api.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=HERE.parent)
    assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    SNAPSHOT.write_text("".join(f"{line}\n" for line in interface()), encoding="utf-8")
