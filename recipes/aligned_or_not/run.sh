#!/usr/bin/env bash
# What aligned phones are worth: the same network on the same hours, with aligned phones and with
# letters that nobody aligned, as F5-TTS has them; two budgets of updates, two seeds.
#
#   recipes/aligned_or_not/run.sh [--from N] [--to N] [KEY=VALUE ...]
source "$(dirname "$0")/../common.sh"
needs='LibriSpeech/train-clean-5 LibriSpeech/test-clean' scored=5
networks=(model=mini)
options 5 "$@"

corpus=$speech/LibriSpeech few=() seeds=(0 1) budgets=(1000 2000) pairs=60
measured=(--scorers pocketsphinx,phones,matching,resemblyzer,dnsmos --workers "$workers")
if [ "$thumbnail" ]; then
  few=(--limit 8 --shard-utterances 4) seeds=(0) budgets=(2 3) pairs=1 measured=(--scorers phones)
  overrides+=(train.batch_frames=4000)
fi

if in_stage 1 "align, and spell what is said"; then
  once "$corpus/test-clean" python -m data_prep.librispeech "$corpus" test-clean $fetch > /dev/null
  once "$data/aligned/info.json" voiceflow prepare librispeech --root "$corpus" $fetch \
    --subset train-clean-5 --aligner ctc --voice mini --workers "$workers" "${few[@]}" \
    --out "$data/aligned"
  cut -d ' ' -f 2- "$corpus"/{train-clean-5,test-clean}/*/*/*.trans.txt | tr ' ' '\n' | grep . |
    sort -u | awk '{ said = $1; gsub(/./, "& ", said); print $1, said }' > "$data/letters.dict"
  once "$data/letters/info.json" voiceflow prepare librispeech --root "$corpus" \
    --subset train-clean-5 --aligner unaligned --phone-set lexicon \
    --lexicon "$data/letters.dict" --workers "$workers" "${few[@]}" --out "$data/letters"
fi
# train_all BUDGET: all texts and seeds, up to budget number 0 or, from there on, number 1.
train_all() {
  local seed text begin updates=${budgets[0]}
  [ "$1" = 0 ] || updates=$((budgets[1] - budgets[0]))
  for seed in "${seeds[@]}"; do
    for text in aligned letters; do
      begin=()
      [ "$1" = 0 ] || begin=("train.init_from=$runs/$text-$seed-0/model")
      train velocity "$data/$text" "$runs/$text-$seed-$1" "${begin[@]}" \
        "train.seed=$((seed + 10 * $1))" "train.updates=$updates"
    done
  done
}
if in_stage 2 "train all to the shorter budget"; then
  train_all 0
fi
if in_stage 3 "train all on, to the longer budget"; then
  train_all 1
fi
if in_stage 4 "speak the same sentences"; then
  for model in $(printf -- '%s\n' "${seeds[@]/%/-0}" "${seeds[@]/%/-1}"); do
    once "$runs/spoken-$model" python recipes/aligned_or_not/speak.py --data "$corpus" \
      --pairs "$pairs" --aligned "$runs/aligned-$model/model" --letters "$data/letters.dict" \
      --unaligned "$runs/letters-$model/model" --out "$runs/spoken-$model"
  done
fi
if in_stage 5 "measure them"; then
  calibrate=--calibrate
  for model in $(printf -- '%s\n' "${seeds[@]/%/-0}" "${seeds[@]/%/-1}"); do
    for text in aligned unaligned; do
      once "$runs/measured-$text-$model/results.json" voiceflow benchmark --data "$corpus" \
        --protocol librispeech-pc --list "$runs/spoken-$model/pairs.lst" --seeds 1 \
        --outputs "$runs/spoken-$model/$text" "${measured[@]}" $calibrate \
        --out "$runs/measured-$text-$model"
      calibrate=--no-calibrate # the recordings are the same in all
    done
    once "$runs/compared-$model.json" voiceflow benchmark compare "$runs/measured-unaligned-$model" \
      "$runs/measured-aligned-$model" --json "$runs/compared-$model.json"
  done
  python recipes/aligned_or_not/table.py "$runs" --budgets "${budgets[@]}" --seeds "${seeds[@]}" |
    tee "$runs/table.md"
fi
