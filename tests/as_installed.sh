#!/bin/sh
# Run the tests against an installed wheel, in a folder from which the sources cannot be imported:
#   as_installed.sh wheel  [pytest's arguments]   with the newest libraries
#   as_installed.sh lowest [pytest's arguments]   with the oldest that pyproject.toml allows
set -eu
kind=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
place=$(mktemp -d)
chmod 755 "$place"
trap 'rm -rf "$place"' EXIT

cd "$root"
"$python" -m hatchling build -d "$place/dist"
cp -R tests examples docs benchmarks mkdocs.yml pyproject.toml Makefile *.md LICENSE "$place"
"$python" -m venv "$place/venv"
new=$place/venv/bin/python
"$new" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' uv

cd "$place"
wheel=$(ls dist/*.whl)
if [ "$kind" = lowest ]; then
    # Only what the package itself asks for is old. Agents that others published ask for a newer langgraph, so they stay away.
    "$new" -m uv pip compile --quiet --resolution lowest-direct --all-extras pyproject.toml -o lowest.txt
    "$new" -m uv pip install --quiet --python "$new" --constraint lowest.txt "$wheel[all]" --group tests
    set -- --ignore tests/test_published_agents.py "$@"
else
    "$new" -m uv pip install --quiet --python "$new" "$wheel[all]" --group test
fi
"$new" -c 'import langgraph_session_store as it; print("testing", it.__version__, "in", it.__file__)'
"$new" -m pytest -n "${JOBS:-auto}" "$@"
