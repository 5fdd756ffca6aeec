#!/usr/bin/env bash
# How fast our network trains beside F5-TTS's of the same size, on this machine.
#
#   recipes/speed/run.sh [--from N] [--to N] [--threads N] [--device cpu|cuda]
source "$(dirname "$0")/../common.sh"
threads=2 own_options="--threads N, --device NAME"
options 2 "$@"
[ ${#overrides[@]} -eq 0 ] || [ "$thumbnail" ] || wrong "nothing here takes KEY=VALUE"

neighbour=$runs/f5-tts measured=(--rounds 3)
[ "$thumbnail" ] && threads=1 measured=(--rounds 1 --seconds 0.1 --size 32/4/2/64 --dtype fp32
  --items 2 --frames 50)
if in_stage 1 "put F5-TTS's network into a folder of its own"; then
  [ -d "$neighbour" ] || python -m pip install -q --disable-pip-version-check --retries 1 --no-deps \
    --target "$neighbour" f5-tts==1.1.22 x-transformers==2.31.10 torch-einops-utils einx loguru \
    frozendict pypinyin rjieba ||
    echo "F5-TTS could not be fetched: our network is measured alone"
fi
if in_stage 2 "train both in turns"; then
  [ ! -d "$neighbour" ] || measured+=(--neighbour-path "$neighbour")
  once "$runs/speed.json" voiceflow benchmark speed --threads "$threads" --device "$device" \
    "${measured[@]}" --json "$runs/speed.json"
fi
