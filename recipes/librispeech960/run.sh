#!/usr/bin/env bash
# All of LibriSpeech (960.9 h of 2338 speakers) to a voice of the paper's size, on eight GPUs, data
# read as a stream. Each stage, given again, goes on where it stopped.
#
#   recipes/librispeech960/run.sh [--from N] [--to N] [--processes GPUS] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
needs='LibriSpeech/train-clean-5 LibriSpeech/train-clean-100 LibriSpeech/test-clean' own_options="--processes N, --subset NAME"
scored=10 subsets=(train-clean-100 train-clean-360 train-other-500) processes=8 batches=8
features=voicebox16k every=64 trials=200 budget=gpu device=cuda
networks=(model=voicebox330m duration=base aligner=mini vocoder=base)
options 10 "$@"
[ "$thumbnail" ] && subsets=(train-clean-5 train-clean-100)

# pocketsphinx aligns the first subset alone; the aligner that it teaches aligns them all. Of the
# first subset the vocoder learns too.
kept=$speech/LibriSpeech subset=test-clean sounds=$data/first
first=(librispeech --root "$kept" $fetch --subset "${subsets[0]}")
all=(librispeech --root "$kept" $fetch $(printf -- '--subset %s ' "${subsets[@]}"))
get_ready() {
  once "$kept/test-clean" python -m data_prep.librispeech "$kept" test-clean $fetch > /dev/null
}
source recipes/voice.sh
