#!/usr/bin/env bash
# Runs every test of the workspace and prints the totals. Called by `make test`.
#
# Nothing is skipped for want of root or of a tool: a test that misses one fails. Only tests over
# the captures of ../shared/data skip where those are absent. Each prints one line that says so,
#   data test ran: NAME        or        data test skipped: NAME: why
# and the totals count these lines. Where the captures are, no test may miss one, and some must have
# run.
set -uo pipefail
cd "$(dirname "$0")/.."

CARGO=${CARGO:-cargo}
TARGET=${CARGO_TARGET_DIR:-target}
LOG=$TARGET/test.log
failed=()

# run NAME COMMAND...: one pass; its failure is noted and the others still run.
run() {
    local name=$1
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    "$@" </dev/null || failed+=("$name")
}

loom() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$TARGET/loom" LOOM_MAX_PREEMPTIONS=3 \
        "$CARGO" test --release --no-fail-fast "$@"
}

run_all() {
    # The end-to-end tests start these binaries, so they come first and from the same profile.
    run build "$CARGO" build --workspace --bins
    run unprivileged "$CARGO" test --workspace --no-fail-fast -- --show-output
    # One at a time: they share two cores, and each has the machine to itself.
    run root "$CARGO" test --workspace --no-fail-fast --lib --bins --tests -- \
        --ignored --test-threads=1 --show-output
    # Models of the lock-free pieces, compiled apart because loom replaces the atomics. Those of
    # the data plane, dataplane/tests/loom, bring their own and were in the unprivileged pass.
    run loom-frame loom --package weir-frame --test loom
    run loom-xdp loom --package weir-xdp --lib loom
    [ "${#failed[@]}" -eq 0 ] || printf 'failed passes: %s\n' "${failed[*]}"
    return "${#failed[@]}"
}

# said_by_failed LOG: what the tests that failed have said, again, so that the end of a long log has
# it. At most 60 lines of each test and 600 in all.
said_by_failed() {
    awk '
        /^test result:/ || /^successes:$/ { failures = 0 }
        /^failures:$/ { failures = !failures; lines = 0 }
        /^test .* \.\.\. FAILED$/ { failed = failed $0 "\n" }
        failures && /^---- .* ----$/ { lines = 0; printf "\n" }
        failures && !/^failures:$/ && ++lines <= 60 && ++all <= 600
        END { printf "%s", failed }' "$1"
}

# totals LOG CAPTURES: what the log of all passes says; CAPTURES is 1 where there are captures.
totals() {
    awk -v captures="$2" '
        /^test result:/ { passed += $4; failed += $6; ignored += $8; suites++ }
        /^data test ran:/ { ran++ }
        /^data test skipped:/ { skipped++; print }
        /^data test skipped:.* is absent$/ { absent++ }
        END {
            printf "data tests: %d ran, %d skipped\n", ran, skipped
            printf "total: %d passed, %d failed, in %d suites\n", passed, failed, suites
            if (passed == 0) exit 1
            if (captures && (ran == 0 || absent > 0)) {
                print "../shared/data/traces is there: none of it may be absent, and tests must run"
                exit 1
            }
        }' "$1"
}

captures=0
[ ! -d ../shared/data/traces ] || captures=1
# For the test of this script: the totals of a log, and nothing else.
if [ "${1:-}" = --totals ]; then
    said_by_failed "$2"
    totals "$2" "$3"
    exit
fi
mkdir -p "$TARGET"
[ "$(id -u)" -eq 0 ] || {
    echo "run-tests.sh: root is needed, for the tests in network namespaces" >&2
    exit 1
}
run_all 2>&1 | tee "$LOG"
status=${PIPESTATUS[0]}
printf '\n=== failed tests, again\n'
said_by_failed "$LOG"
printf '\n=== totals\n'
totals "$LOG" "$captures" || status=1
exit "$status"
