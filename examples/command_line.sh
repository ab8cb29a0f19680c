#!/bin/sh
# A training that is no Python program: what it writes is logged, watched, named and fetched by commands alone.
#
#     sh command_line.sh
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export WHERRY_PROJECT=examples

# Each checkpoint overwrites the one before. `put --no-wait` returns when the bytes are safe, and prints the
# request's id.
requests=
for step in 1 2 3; do
    { echo "step $step"; head -c 100000 /dev/urandom; } >model.bin
    alias=
    [ "$step" = 2 ] && alias='--alias best'
    # shellcheck disable=SC2086 # two words, or none
    id=$(wherry put model.bin --name shell-model --type model --metadata "{\"step\": $step}" $alias --no-wait)
    requests="$requests $id"
done

# Before a job ends: are they in the store? The exit code says so, too.
# shellcheck disable=SC2086 # one word each
wherry wait $requests --timeout 10m

wherry ls shell-model
wherry show shell-model:best
wherry alias shell-model:best approved

# Another job, on any machine that has the store.
wherry get shell-model:approved --root fetched
head -n 1 fetched/model.bin
