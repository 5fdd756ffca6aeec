#!/usr/bin/env bash
# LJSpeech (24 h of one reader, 22.05 kHz) to a voice with the front end of HiFi-GAN, in a night of
# two CPU cores or an hour or two of one GPU; each 131st sentence is kept aside for measuring.
#
#   recipes/ljspeech/run.sh [--from N] [--to N] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
needs=LJSpeech-1.1 own_options="--processes N" processes=2 batches=2 scored=10
features=hifigan22k every=16 trials=100
networks=(model=mini duration=mini aligner=mini vocoder=mini sample=fast)
options 10 "$@"

kept=$data/kept subset=unseen sounds=$data/train
first=(table --root "$data/train.tsv")
all=("${first[@]}")
get_ready() {
  local each=131
  [ "$thumbnail" ] && each=3
  python -m data_prep.ljspeech "$speech/LJSpeech-1.1" $fetch > /dev/null
  keep_aside "$speech/LJSpeech-1.1" "$each"
  grep -v LJ-unseen "$data/table.tsv" > "$data/train.tsv"
}
source recipes/voice.sh
