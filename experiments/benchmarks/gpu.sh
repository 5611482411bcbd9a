#!/usr/bin/env bash
# Everything here that is about a GPU, measured into one JSON:
#     experiments/benchmarks/gpu.sh gpu.json       on a machine with a GPU (an hour or so)
#     experiments/benchmarks/gpu.sh --device cpu   runs all of it on a CPU, on tiny sizes (minutes): that
#                                                  it comes to its end; what it measures says nothing
#     experiments/benchmarks/gpu.sh --dry-run      only says what it would run, and tries that it parses
# We have run it whole on a CPU alone, and never on a GPU: there was none. PYTHON names another interpreter than python.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
dry=false
device=cuda
while [[ ${1:-} == --* ]]; do
    case $1 in
        --dry-run) dry=true ;;
        --device) device=${2:?--device needs cuda or cpu}; shift ;;
        *) echo "$1: unknown; use --device cpu, or --dry-run" >&2; exit 2 ;;
    esac
    shift
done
stdp=(--rates 0.03 0.12 --make-envs)
measures=()
case $device in
    cuda) ;;
    cpu)
        stdp=(--rates 0.03 --batch 1 --quick --threads 1 --peers)
        measures=(--models test_vit --per-class 4 --runs 1)
        ;;
    *) echo "--device $device: use cuda or cpu" >&2; exit 2 ;;
esac
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
mapfile -t tests < <(grep -rl --include='test_*.py' cuda tests)
run -m pytest -q -k cuda --junitxml "$parts/tests.xml" "${tests[@]}" || { if $dry; then exit 1; fi; }
run experiments/benchmarks/stdp_throughput.py --device "$device" "${stdp[@]}" --json "$parts/stdp.json"
run experiments/benchmarks/gpu_measures.py --device "$device" "${measures[@]}" \
    --tests "$parts/tests.xml" --stdp "$parts/stdp.json" --json "$out"
