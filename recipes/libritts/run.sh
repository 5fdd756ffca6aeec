#!/usr/bin/env bash
# LibriTTS's train-clean parts (245 h of 1151 speakers, 24 kHz) to a voice with the front end of
# Vocos, on one GPU. Each stage, given again, goes on where it stopped.
#
#   recipes/libritts/run.sh [--from N] [--to N] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
needs='LibriSpeech/train-clean-5 LibriSpeech/test-clean' own_options="--processes N, --subset NAME"
scored=10 subsets=(train-clean-100 train-clean-360) batches=2 features=vocos24k every=64 trials=200
budget=gpu device=cuda networks=(model=base duration=base aligner=mini vocoder=base)
options 10 "$@"

root=$speech/LibriTTS
if [ "$thumbnail" ]; then # LibriSpeech has 16 kHz, too few for the features of 24 kHz
  root=$PWD/$data/LibriTTS features=voicebox16k overrides+=(vocoder.n_fft=640)
fi
kept=$data/kept subset=test-clean sounds=$data/first
first=(libritts --root "$root" $fetch --subset "${subsets[0]}")
all=(libritts --root "$root" $fetch $(printf -- '--subset %s ' "${subsets[@]}"))

# From LibriSpeech's layout to LibriTTS's, for the thumbnail: the first SPEAKERS speakers of a
# subset of LibriSpeech, N of their utterances each, as the utterances of a subset of LibriTTS.
like_libritts() {
  local from_subset=$1 to_subset=$2 speakers=$3 number=$4 chapter texts id words
  for chapter in $(cd "$speech/LibriSpeech/$from_subset" && printf '%s\n' */* |
    sort -u -t / -k 1,1 | head -n "$speakers"); do
    mkdir -p "$root/$to_subset/$chapter"
    texts=$speech/LibriSpeech/$from_subset/$chapter/${chapter/\//-}.trans.txt
    head -n "$number" "$texts" | while read -r id words; do
      ln -sf "${texts%/*}/$id".* "$root/$to_subset/$chapter/"
      echo "$words" > "$root/$to_subset/$chapter/$id.normalized.txt"
    done
  done
}

# What the voice is measured on: a subset of LibriTTS in the layout of LibriSpeech, as links.
like_librispeech() {
  local sound text id chapter
  for sound in "$root/$subset"/*/*/*; do
    id=${sound##*/} id=${id%.*} chapter=${sound#"$root/"} chapter=${chapter%/*}
    text=${sound%/*}/$id.normalized.txt
    case $sound in *.txt | *.tsv) continue ;; esac
    [ -f "$text" ] || continue
    mkdir -p "$1/$chapter"
    ln -s "$sound" "$1/$chapter/"
    echo "$id $(cat "$text")" >> "$1/$chapter/$(cut -d / -f 2,3 <<< "$chapter" | tr / -).trans.txt"
  done
}
get_ready() {
  [ ! -d "$kept" ] || return 0
  if [ "$thumbnail" ]; then
    like_libritts train-clean-5 train-clean-100 2 5
    like_libritts train-clean-5 train-clean-360 4 5
    like_libritts test-clean test-clean 2 20
  else
    python -m data_prep.libritts "$root" "$subset" --download > /dev/null
  fi
  rm -rf "$kept.part"
  like_librispeech "$kept.part"
  mv "$kept.part" "$kept"
}
source recipes/voice.sh
