#!/usr/bin/env bash
# The bundled voice, from LibriSpeech's folders to voiceflow/voices/mini. Stages can be resumed:
# each command given again goes on where it stopped.
#
#   recipes/mini/run.sh [--from N] [--to N] [--speech DIR]     stages 1 to 4; see README.md
set -euo pipefail
cd "$(dirname "$0")/../.."
from=1 to=4 speech=${VOICEFLOW_SPEECH_DIR:-../shared/speech}
while [ $# -gt 0 ]; do
  case $1 in
    --from) from=$2 ;;
    --to) to=$2 ;;
    --speech) speech=$2 ;;
    *) echo "run.sh: unknown option $1 (known: --from N, --to N, --speech DIR)" >&2; exit 2 ;;
  esac
  shift 2
done
PATH=$PWD/.venv/bin:$PATH
stage() { [ "$1" -ge "$from" ] && [ "$1" -le "$to" ] && echo "== stage $1: $2"; }

if stage 1 "align and compute features"; then
  voiceflow prepare librispeech --root "$speech/LibriSpeech" --subset train-clean-5 \
    --subset train-clean-100 --aligner pocketsphinx --out data/train --workers 2
fi
if stage 2 "train the velocity network"; then
  OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 -m voiceflow train \
    task=velocity data=data/train model=mini train=cpu out=runs/mini \
    $(grep -v '^#' recipes/mini/velocity.txt)
fi
if stage 3 "train the duration network"; then
  voiceflow train task=duration data=data/train duration=mini train=cpu out=runs/mini \
    $(grep -v '^#' recipes/mini/duration.txt)
fi
if stage 4 "pack the voice"; then
  voiceflow pack runs/mini/model --out voiceflow/voices/mini
fi
