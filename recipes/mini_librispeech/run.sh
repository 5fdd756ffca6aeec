#!/usr/bin/env bash
# mini-LibriSpeech (train-clean-5, 5.3 h of 28 speakers) to a voice of the bundled one's size, in a
# night of two CPU cores. Each stage, given again, goes on where it stopped.
#
#   recipes/mini_librispeech/run.sh [--from N] [--to N] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
needs='LibriSpeech/train-clean-5 LibriSpeech/test-clean' own_options="--processes N, --subset NAME"
scored=10 subsets=(train-clean-5) processes=2 batches=2 features=voicebox16k every=16 trials=40
networks=(model=mini duration=mini aligner=mini vocoder=mini sample=fast)
options 11 "$@"

kept=$speech/LibriSpeech subset=test-clean sounds=$data/train
first=(librispeech --root "$kept" $fetch $(printf -- '--subset %s ' "${subsets[@]}"))
all=("${first[@]}")
get_ready() {
  once "$kept/test-clean" python -m data_prep.librispeech "$kept" test-clean $fetch > /dev/null
}
source recipes/voice.sh

if in_stage 11 "measure its aligner, and gaps, as the bundled voice's card does"; then
  few=() gaps=()
  [ "$thumbnail" ] && few=(--limit 1) gaps=(--limit 1 --samples 1 --steps 1)
  if [ -d "$speech/LibriSpeech-alignments" ]; then
    once "$runs/alignment.json" voiceflow measure alignment --root "$kept" "${few[@]}" \
      --alignments "$speech/LibriSpeech-alignments" --aligner ctc --voice "$runs/voice" \
      --out "$runs/alignment.json"
  fi
  once "$runs/infill.json" voiceflow measure infill --root "$kept" --data "$data/train" \
    --voice "$runs/voice" "${gaps[@]}" --out "$runs/infill.json"
fi
