#!/usr/bin/env bash
# Train two rows of bundles/two_circles side by side, one thread each, and compare them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

bundle=bundles/two_circles
output=output/two_circles
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# `exec`, so that the process id of `train ROW &` is the training's own.
train() {
  exec .venv/bin/python -m monai.bundle run \
    --config_file "['$bundle/configs/train.json','$bundle/configs/rows/$1.json']" \
    --bundle_root "$bundle" \
    --output_dir "$output/$1"
}

finish() { # ROW PID
  wait "$2" && return
  printf '\ndemo.sh: training the row %s failed; the end of %s:\n' "$1" "$output/$1.log" >&2
  tail -n 20 "$output/$1.log" >&2
  exit 1
}

stop() {
  kill "$penalty" "$barrier" 2>/dev/null || true
  wait
}

mkdir -p "$output"
echo "Training the rows penalty and barrier side by side; the bar is barrier's, the rest is in $output/*.log"
train penalty >"$output/penalty.log" 2>&1 &
penalty=$!
train barrier >"$output/barrier.log" & # stderr, with the progress bar and any error, stays on the terminal
barrier=$!
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

while kill -0 "$penalty" 2>/dev/null && kill -0 "$barrier" 2>/dev/null; do sleep 1; done
if kill -0 "$penalty" 2>/dev/null; then
  finish barrier "$barrier"
  finish penalty "$penalty"
else
  finish penalty "$penalty"
  finish barrier "$barrier"
fi
trap - EXIT INT TERM

.venv/bin/python -m monai_constraints.experiments.compare "$output/penalty" "$output/barrier" --out "$output"
