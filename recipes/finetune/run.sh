#!/usr/bin/env bash
# The bundled voice, adapted to a speaker whom it has never heard, from less than two minutes of
# speech, once whole and once by adapters; then what that gained on sentences kept aside.
#
#   recipes/finetune/run.sh [--from N] [--to N] [--speech DIR] [KEY=VALUE ...]
#
# The CPU should have bf16 (`lscpu | grep -E 'avx512_bf16|amx_bf16'` shows it); where it has not,
# train.mixed_precision=no.
source "$(dirname "$0")/../common.sh"
needs=LJSpeech-1.1 scored=5
options 5 "$@"

corpus=$speech/LJSpeech-1.1 networks=(model=mini duration=mini sample=fast) gaps=(--samples 4)
[ "$thumbnail" ] && gaps=(--samples 1 --steps 1 --limit 1)

# adapt OUT [KEY=VALUE ...]: both of mini's networks, trained on.
adapt() {
  local out=$1 task
  shift
  for task in velocity duration; do
    train "$task" "$data/prepared" "$runs/$out" train.init_from=mini "$@"
  done
}

if in_stage 1 "align, and keep every third sentence aside"; then
  [ -d "$corpus" ] || wrong "$corpus is absent: python -m data_prep.ljspeech $corpus --download"
  # Twenty sentences, 2.4 minutes: every ninth of the first chapter.
  awk -F'|' '/^LJ001/ && (n = substr($1, 7) + 0) % 9 == 1 && n <= 172' "$corpus/metadata.csv" \
    > "$data/minutes.csv"
  keep_aside "$corpus" 3 "$data/minutes.csv"
  once "$data/prepared/info.json" voiceflow prepare table --root "$data/table.tsv" --aligner ctc \
    --voice mini --out "$data/prepared"
  # Training hears none of the speakers named here, and validation hears them alone.
  echo '{"train": ["LJ"], "validation": ["LJ-unseen"]}' > "$data/prepared/split.json"
fi
if in_stage 2 "the voice as it is: no update changes anything at a learning rate of 0"; then
  adapt before train.learning_rate=0 train.updates=1
fi
if in_stage 3 "train all weights"; then
  adapt full $(settings full)
fi
if in_stage 4 "train adapters"; then
  adapt lora $(settings lora)
fi
if in_stage 5 "fill gaps in the sentences kept aside"; then
  for name in before full lora; do
    once "$runs/infill-$name.json" voiceflow measure infill --root "$data/kept" --subset unseen \
      --per-speaker 6 "${gaps[@]}" --voice "$runs/$name/model" --out "$runs/infill-$name.json"
  done
fi
