#!/usr/bin/env bash
# The bundled voice, adapted to a speaker whom it has never heard, from less than two minutes of
# speech, once whole and once by adapters; then what that gained on sentences kept aside.
#
#   recipes/finetune/run.sh [--from N] [--to N] [--speech DIR] [KEY=VALUE ...]     stages 1 to 5
#
# KEY=VALUE are overrides of all trainings, such as train.mixed_precision=no where the CPU has no
# bf16 (`lscpu | grep -E 'avx512_bf16|amx_bf16'` shows it).
set -euo pipefail
cd "$(dirname "$0")/../.."
from=1 to=5 speech=${VOICEFLOW_SPEECH_DIR:-../shared/speech} overrides=()
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
recipe=recipes/finetune data=data/finetune runs=runs/finetune
corpus=$(cd "$speech" && pwd)/LJSpeech-1.1
stage() { [ "$1" -ge "$from" ] && [ "$1" -le "$to" ] && echo "== stage $1: $2"; }

# adapt TASK OUT [KEY=VALUE ...]: mini's network, trained on.
adapt() {
  local task=$1 out=$2 size=model=mini
  [ "$task" = duration ] && size=duration=mini
  shift 2
  voiceflow train "task=$task" "data=$data/prepared" "$size" train=cpu sample=mini \
    train.init_from=mini "out=$runs/$out" $(grep -v '^#' "$recipe/$task.txt") "$@" \
    "${overrides[@]}"
}

if stage 1 "align, and keep every third sentence aside"; then
  # Twice: as a table for `prepare`, and the sentences kept aside in the layout that `measure` reads.
  kept=$data/kept/unseen/LJ/1
  mkdir -p "$kept"
  awk -F'|' -v wavs="$corpus/wavs" -v kept="$kept/LJ-1.trans.txt" '
    BEGIN { OFS = "\t"; print "id", "audio", "text", "speaker"; printf "" > kept }
    { print $1, wavs "/" $1 ".wav", $3, NR % 3 ? "LJ" : "LJ-unseen" }
    NR % 3 == 0 { print $1 " " $3 > kept }' "$corpus/metadata.csv" > "$data/table.tsv"
  cut -d' ' -f1 "$kept/LJ-1.trans.txt" | while read -r id; do
    ln -sf "$corpus/wavs/$id.wav" "$kept/$id.wav"
  done
  voiceflow prepare table --root "$data/table.tsv" --aligner ctc --voice mini \
    --out "$data/prepared"
  # Training hears none of the speakers named here, and validation hears them alone.
  echo '{"train": ["LJ"], "validation": ["LJ-unseen"]}' > "$data/prepared/split.json"
fi
if stage 2 "the voice as it is: no update changes anything at a learning rate of 0"; then
  for task in velocity duration; do
    adapt "$task" before train.learning_rate=0 train.updates=1
  done
fi
if stage 3 "train all weights"; then
  for task in velocity duration; do
    adapt "$task" full $(grep -v '^#' $recipe/full.txt)
  done
fi
if stage 4 "train adapters"; then
  for task in velocity duration; do
    adapt "$task" lora $(grep -v '^#' $recipe/lora.txt)
  done
fi
if stage 5 "fill gaps in the sentences kept aside"; then
  for name in before full lora; do
    voiceflow measure infill --root "$data/kept" --subset unseen --per-speaker 6 --samples 4 \
      --voice "$runs/$name/model" --out "$runs/infill-$name.json"
  done
fi
