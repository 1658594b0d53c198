#!/usr/bin/env bash
# Train two rows of bundles/two_circles side by side, one thread each, and compare them. Killed? Start it again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python -m reproduce.table reproduce/tables/two_circles.yaml --out output/two_circles --workers 2
