#!/usr/bin/env bash
# LibriSpeech's train-clean-100 (100.6 h of 251 speakers) to a voice of the size of the paper's
# ablations, on one GPU. Each stage, given again, goes on where it stopped.
#
#   recipes/librispeech100/run.sh [--from N] [--to N] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
needs='LibriSpeech/train-clean-100 LibriSpeech/test-clean' own_options="--processes N, --subset NAME"
scored=10 subsets=(train-clean-100) batches=2 features=voicebox16k every=64 trials=200 budget=gpu device=cuda
networks=(model=base duration=base aligner=mini vocoder=base)
options 10 "$@"

kept=$speech/LibriSpeech subset=test-clean sounds=$data/train
first=(librispeech --root "$kept" $fetch $(printf -- '--subset %s ' "${subsets[@]}"))
all=("${first[@]}")
get_ready() {
  once "$kept/test-clean" python -m data_prep.librispeech "$kept" test-clean $fetch > /dev/null
}
source recipes/voice.sh
