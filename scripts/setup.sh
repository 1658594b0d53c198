#!/usr/bin/env bash
# Install the package, editable, with the tested versions of everything that it and reproduce/ need, into .venv.
# Usage: bash scripts/setup.sh [test]     "test" adds what scripts/test.sh needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extra=${1:-}
case "$extra" in
  "" | test) ;;
  *) echo "setup.sh: expected no argument or 'test', got '$extra'" >&2; exit 2 ;;
esac

# What an installation depends on; the path is part of it because the installation is editable.
recipe() { pwd; cat pyproject.toml setup.cfg setup.py constraints.txt; }
python=.venv/bin/python
if "$python" -c "" 2>/dev/null && recipe | cmp -s - ".venv/installed${extra:+.$extra}"; then
  exit 0
fi

# A name on PATH may be a stub of a version manager that cannot run, so each candidate is tried.
if ! "$python" -c "" 2>/dev/null; then
  for candidate in python3.12 python3.11 python3.10 python3; do
    if "$candidate" -c "import sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null; then
      "$candidate" -m venv --clear .venv
      break
    fi
  done
  if ! "$python" -c "" 2>/dev/null; then
    echo "setup.sh: needs Python 3.10 or newer with its venv module; install one and put it on PATH" >&2
    exit 1
  fi
fi

echo "Installing into .venv ($("$python" --version)); the first time takes some minutes" >&2
rm -f .venv/installed .venv/installed.test
verbosity=()
[ -t 2 ] || verbosity=(--quiet --quiet)
"$python" -m pip install "${verbosity[@]+"${verbosity[@]}"}" --disable-pip-version-check \
  -c constraints.txt -e ".[${extra:-reproduce}]" >&2
if [ "$extra" = test ]; then # not in the extra: without a C++ compiler its tests are skipped, and all others run
  "$python" -m pip install "${verbosity[@]+"${verbosity[@]}"}" --disable-pip-version-check \
    -c constraints.txt pydensecrf2 >&2 || echo "setup.sh: pydensecrf2 could not be built; its tests are skipped" >&2
fi
recipe >.venv/installed
[ -z "$extra" ] || recipe >".venv/installed.$extra"
