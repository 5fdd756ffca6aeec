# From a corpus to a voice and its figures, in ten stages. A run.sh that sources this has set
#   all, first     what `voiceflow prepare` is told of the corpus; of the part that pocketsphinx aligns
#   kept, subset   the folder in LibriSpeech's layout, and its part, that the voice is measured on
#   features       the front end, of conf/features
#   sounds         prepared data that the vocoder is trained on
#   every          one utterance of a shard in so many is made anew by the voice, for its vocoder
#   trials         utterances of each kind that it is measured on
# and a function get_ready, which makes what of this does not come by `voiceflow prepare`.
# shellcheck shell=bash disable=SC2046,SC2154

# prepare OUT ALIGNER ... -- CORPUS ...: align a corpus and compute its features.
prepare() {
  local out=$1 how=()
  shift
  while [ "$1" != -- ]; do how+=("$1"); shift; done
  shift
  [ "$thumbnail" ] && how+=(--limit 10 --shard-utterances 4)
  once "$out/info.json" voiceflow prepare "$@" --features "$features" --aligner "${how[@]}" \
    --workers "$workers" --out "$out"
}

if in_stage 1 "align by pocketsphinx, and compute features"; then
  get_ready
  prepare "$data/first" pocketsphinx -- "${first[@]}"
fi
if in_stage 2 "train the aligner"; then
  train aligner "$data/first" "$runs/aligner"
fi
if in_stage 3 "align again, by that aligner"; then
  prepare "$data/train" ctc --voice "$runs/aligner/model" -- "${all[@]}"
fi
if in_stage 4 "train the velocity network"; then
  train velocity "$data/train" "$runs"
fi
if in_stage 5 "train the duration network"; then
  train duration "$data/train" "$runs"
fi
if in_stage 6 "train the duration network that draws"; then
  train duration_flow "$data/train" "$runs"
fi
vocoder=$runs/vocoder
[ ! -f "$here/game.txt" ] || vocoder=$runs/vocoder-game
if in_stage 7 "train the vocoder"; then
  train vocoder "$sounds" "$runs/vocoder"
  [ ! -f "$here/game.txt" ] ||
    train vocoder "$sounds" "$vocoder" $(settings game) "train.init_from=$runs/vocoder/model"
fi
if in_stage 8 "train the vocoder on what the voice makes"; then
  [ "$thumbnail" ] && every=1
  once "$data/regenerated/info.json" voiceflow data regenerate "$sounds" --voice "$runs/model" \
    --every "$every" --device "$device" --out "$data/regenerated"
  train vocoder "$data/regenerated" "$runs/vocoder-own" $(settings own) \
    "train.init_from=$vocoder/model"
fi
if in_stage 9 "pack the voice"; then
  once "$runs/voice" voiceflow pack "$runs/model" --out "$runs/voice" \
    --aligner "$runs/aligner/model" --vocoder "$vocoder/model" \
    --averaged-with "$runs/vocoder-own/model"
fi
if in_stage 10 "measure it"; then
  measured=(--scorers offline --limit "$trials" --workers "$((workers < 8 ? workers : 8))")
  [ "$thumbnail" ] && measured=(--scorers phones --limit 1 --steps 1)
  once "$runs/benchmark" voiceflow benchmark --voice "$runs/voice" --data "$kept" \
    --subset "$subset" --protocol infill,voicebox,durations,speed "${measured[@]}" \
    --device "$device" --out "$runs/benchmark"
fi
