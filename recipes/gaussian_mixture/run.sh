#!/usr/bin/env bash
# Flow matching on eleven Gaussians: every path, both remedies for crooked lines, and the older way.
# What runs/toy holds already is not trained again.
#
#   recipes/gaussian_mixture/run.sh [--quick] [KEY=VALUE ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/.venv/bin:$PATH
out=runs/toy
for word in "$@"; do [ "$word" = --quick ] && out=runs/toy-quick; done
voiceflow toy --out "$out" "$@"
