#!/usr/bin/env bash
# Install what is needed, then check style and types and run the tests; stop at the first that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test

export OMP_NUM_THREADS=1 # the tests already share the cores among processes

check() {
  echo "== $1"
  .venv/bin/python -m "$@" || {
    local status=$?
    echo "test.sh: $1 failed" >&2
    exit "$status"
  }
}

check flake8
check isort --check-only --diff .
check mypy
check pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile
