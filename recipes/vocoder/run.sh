#!/usr/bin/env bash
# Vocoders for the bundled voice from train-clean-5: one of phase differences, as the voice has it,
# then on the voice's own generations, and Vocos, by spectra and against discriminators.
#
#   recipes/vocoder/run.sh [--from N] [--to N] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
needs='LibriSpeech/train-clean-5 LibriSpeech/test-clean' scored=7
networks=(vocoder=mini)
options 7 "$@"

corpus=$speech/LibriSpeech kept=$speech/LibriSpeech few=() anew=(--every 16) measured=(--vocoder mini)
vocos=(vocoder=vocos)
if [ "$thumbnail" ]; then
  few=(--limit 10 --shard-utterances 4) anew=(--steps 1) measured=(--per-speaker 1 --only distance)
  vocos=(vocoder=tiny) kept=$data/kept
fi

if in_stage 1 "align, and compute features"; then
  once "$corpus/test-clean" python -m data_prep.librispeech "$corpus" test-clean $fetch > /dev/null
  once "$data/train/info.json" voiceflow prepare librispeech --root "$corpus" $fetch \
    --subset train-clean-5 --aligner ctc --voice mini --workers "$workers" "${few[@]}" \
    --out "$data/train"
fi
if in_stage 2 "train the vocoder of phase differences"; then
  train vocoder "$data/train" "$runs/differences" $(settings differences)
fi
if in_stage 3 "make data anew by the voice, and train it on them"; then
  once "$data/regenerated/info.json" voiceflow data regenerate "$data/train" --voice mini \
    "${anew[@]}" --out "$data/regenerated"
  train vocoder "$data/regenerated" "$runs/own" $(settings differences) $(settings own) \
    "train.init_from=$runs/differences/model"
fi
if in_stage 4 "give the voice the mean of both"; then
  once "$runs/voice" voiceflow pack mini --out "$runs/voice" \
    --vocoder "$runs/differences/model" --averaged-with "$runs/own/model"
fi
if in_stage 5 "train Vocos by spectra"; then
  train vocoder "$data/train" "$runs/vocos" "${vocos[@]}" $(settings vocos)
fi
if in_stage 6 "train Vocos against discriminators"; then
  train vocoder "$data/train" "$runs/vocos-game" "${vocos[@]}" $(settings vocos) \
    $(settings game) "train.init_from=$runs/vocos/model"
fi
if in_stage 7 "measure them, beside Griffin-Lim"; then
  if [ "$thumbnail" ]; then # two speakers
    mkdir -p "$kept/test-clean"
    ln -sfn $(printf '%s\n' "$corpus"/test-clean/*/ | head -n 2) "$kept/test-clean/"
  fi
  once "$runs/vocoders.json" voiceflow measure vocoder --root "$kept" --voice mini \
    --vocoder "$runs/voice" --vocoder "$runs/vocos/model" --vocoder "$runs/vocos-game/model" \
    "${measured[@]}" --out "$runs/vocoders.json"
fi
