#!/usr/bin/env bash
# The bundled voice, from LibriSpeech's folders to voiceflow/voices/mini and its figures. Stages can
# be resumed: each command given again goes on where it stopped.
#
#   recipes/mini/run.sh [--from N] [--to N] [--speech DIR] [KEY=VALUE ...]     stages 1 to 6
#
# KEY=VALUE are overrides of both trainings, such as train.mixed_precision=no where the CPU has no
# bf16 (`lscpu | grep -E 'avx512_bf16|amx_bf16'` shows it).
set -euo pipefail
cd "$(dirname "$0")/../.."
from=1 to=6 speech=${VOICEFLOW_SPEECH_DIR:-../shared/speech} overrides=()
while [ $# -gt 0 ]; do
  case $1 in
    --from) from=$2; shift 2 ;;
    --to) to=$2; shift 2 ;;
    --speech) speech=$2; shift 2 ;;
    *=*) overrides+=("$1"); shift ;;
    *) echo "run.sh: unknown option $1 (known: --from N, --to N, --speech DIR, KEY=VALUE)" >&2; exit 2 ;;
  esac
done
PATH=$PWD/.venv/bin:$PATH
stage() { [ "$1" -ge "$from" ] && [ "$1" -le "$to" ] && echo "== stage $1: $2"; }

if stage 1 "align and compute features"; then
  voiceflow prepare librispeech --root "$speech/LibriSpeech" --subset train-clean-5 \
    --subset train-clean-100 --aligner pocketsphinx --out data/train --workers 2
fi
if stage 2 "train the velocity network"; then
  OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node 2 -m voiceflow train \
    task=velocity data=data/train model=mini train=cpu sample=mini out=runs/mini \
    $(grep -v '^#' recipes/mini/velocity.txt) "${overrides[@]}"
fi
if stage 3 "train the duration network"; then
  voiceflow train task=duration data=data/train duration=mini train=cpu sample=mini out=runs/mini \
    $(grep -v '^#' recipes/mini/duration.txt) "${overrides[@]}"
fi
if stage 4 "train the aligner, on train-clean-5 alone"; then
  voiceflow prepare librispeech --root "$speech/LibriSpeech" --subset train-clean-5 \
    --aligner pocketsphinx --out data/train-clean-5 --workers 2
  voiceflow train task=aligner data=data/train-clean-5 aligner=mini train=cpu out=runs/aligner \
    $(grep -v '^#' recipes/mini/aligner.txt) "${overrides[@]}"
fi
if stage 5 "pack the voice"; then
  voiceflow pack runs/mini/model --out voiceflow/voices/mini --aligner runs/aligner/model
fi
if stage 6 "measure it"; then
  voiceflow measure alignment --root "$speech/LibriSpeech" \
    --alignments "$speech/LibriSpeech-alignments"
  voiceflow measure alignment --root "$speech/LibriSpeech" \
    --alignments "$speech/LibriSpeech-alignments" --aligner ctc --voice mini
  voiceflow measure infill --root "$speech/LibriSpeech" --data data/train --out runs/infill.json
  voiceflow measure speech --root "$speech/LibriSpeech" --out runs/speech.json
fi
