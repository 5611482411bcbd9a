#!/usr/bin/env bash
# Everything here that is about a GPU, measured into one JSON:
#     experiments/benchmarks/gpu.sh gpu.json       on a machine with a GPU (an hour or so)
#     experiments/benchmarks/gpu.sh --dry-run      only says what it would run, and tries that it parses
# We have never run it on a GPU: there was none. PYTHON names another interpreter than python.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
dry=false
if [ "${1:-}" = --dry-run ]; then
    dry=true
    shift
fi
out=${1:-gpu.json}
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

run() { # SCRIPT OPTIONS...
    echo "+ $python $*" >&2
    if $dry; then
        "$python" "$@" --help >/dev/null
    else
        "$python" "$@"
    fi
}

# failed tests are part of the result, and keep nothing else from being measured
run -m pytest -q -k cuda --junitxml "$parts/tests.xml" tests || ! $dry
run experiments/benchmarks/stdp_throughput.py --device cuda --make-envs --rates 0.03 0.12 --json "$parts/stdp.json"
run experiments/benchmarks/gpu_measures.py --device cuda --tests "$parts/tests.xml" --stdp "$parts/stdp.json" --json "$out"
