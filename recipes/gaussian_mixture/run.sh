#!/usr/bin/env bash
# Flow matching on eleven Gaussians: every path, both remedies for crooked lines, and the older way.
# What is there is not trained again.
#
#   recipes/gaussian_mixture/run.sh [--from N] [--to N] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
options 2 "$@"

# KEY=VALUE are settings of conf/toy here: `voiceflow toy` is no training of speech.
toy=("${overrides[@]}")
[ "$thumbnail" ] && toy=(updates=20 batch=64 samples=100 couples=200 coupling_batch=16
  likelihood_updates=2 likelihood_batch=16 likelihood_steps=2 width=16 layers=2
  "${overrides[@]:${#small[@]}}")
if in_stage 1 "the optimal-transport path"; then
  once "$runs/quick" voiceflow toy --quick --out "$runs/quick" "${toy[@]}"
fi
if in_stage 2 "every path and way"; then
  once "$runs/full" voiceflow toy --out "$runs/full" "${toy[@]}"
fi
