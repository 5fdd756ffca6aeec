# What all recipes share: options, numbered stages and their times, and commands that are not given
# twice. A run.sh sources this first, sets what it needs, and calls `options LAST "$@"`.
# shellcheck shell=bash
set -euo pipefail
where=$PWD
cd "$(dirname "$0")"
recipe=$(basename "$PWD")
cd ../..
here=recipes/$recipe data=data/$recipe runs=runs/$recipe
PATH=$PWD/.venv/bin:$PATH
from=1 to=0 last=0 scored='' speech='' thumbnail='' workers='' processes=1 batches=1 own_options='' needs=''
fetch=--download budget=cpu device=cpu subsets=() networks=() overrides=() titles=()
stage=0 changed=''
# A few small updates, whatever a recipe's settings say: `--thumbnail`.
small=(train.updates=3 train.batch_frames=1200 train.crop_frames=400 train.warmup_updates=1
  train.accumulate=1 train.workers=0 train.mixed_precision=no train.log_every=1
  train.checkpoint_every=3 train.validate_every=3 train.validation_utterances=2)

wrong() {
  echo "$here/run.sh: $*" >&2
  exit 2
}

usage() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$here/run.sh"
  cat << END

  --from N, --to N  the first and the last stage to run, of 1 to $last
  --speech DIR      where the corpora are, or are fetched to: \$VOICEFLOW_SPEECH_DIR, else
                    corpora/ in the checkout
  --thumbnail       all stages on a little real speech with tiny networks: runs/thumbnail/$recipe
  --workers N       processes that prepare data; as many as there are cores if not given
END
  case $own_options in *--processes*)
    echo "  --processes N     processes that train the velocity network, a GPU each; $processes if not given" ;;
  esac
  case $own_options in *--subset*)
    echo "  --subset NAME     of the corpus; may be given several times; if not: ${subsets[*]}" ;;
  esac
  echo "  KEY=VALUE         overrides of every training, as train.mixed_precision=no"
}

# options LAST [WORDS ...]: read the command line of a recipe with LAST stages. Its own options are
# named in own_options, the folders under --speech that its thumbnail is made of in needs, the stage
# that needs the scorers of the extra eval in scored.
options() {
  last=$1 to=$1
  shift
  local given=() own=() part processes_given=''
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h) usage; exit 0 ;;
      --thumbnail) thumbnail=1; shift; continue ;;
      *=*) [ "${1#-}" = "$1" ] || wrong "give the value of ${1%%=*} after a space"
        own+=("$1"); shift; continue ;;
      --from | --to | --speech | --workers) ;;
      *) case " $own_options " in
          *" $1 "*) ;;
          *) wrong "unknown option $1 (known: --from N, --to N, --speech DIR, --thumbnail," \
            "--workers N, ${own_options:+$own_options, }KEY=VALUE; --help tells what they do)" ;;
        esac ;;
    esac
    [ $# -gt 1 ] || wrong "$1 needs a value"
    case $1 in
      --speech | --device) printf -v "${1#--}" %s "$2" ;;
      --subset) given+=("$2") ;;
      *) [[ $2 =~ ^[1-9][0-9]*$ ]] || wrong "$1 needs a number from 1 up, found '$2'"
        printf -v "${1#--}" %s "$2" ;;
    esac
    [ "$1" != --processes ] || processes_given=1
    shift 2
  done
  { [ "$from" -le "$to" ] && [ "$to" -le "$last" ]; } ||
    wrong "stages are 1 to $last, found --from $from --to $to"
  case $speech in
    '') speech=${VOICEFLOW_SPEECH_DIR:-corpora} ;;
    /*) ;;
    *) speech=$where/$speech ;;
  esac
  command -v voiceflow > /dev/null || wrong "voiceflow is not installed: make setup"
  if [ "$scored" ] && [ ! "$thumbnail" ] && [ "$to" -ge "$scored" ]; then
    python -c 'import importlib.util as there, sys
sys.exit(any(there.find_spec(n) is None for n in ("resemblyzer", "speechmos", "pesq", "pystoi")))' ||
      wrong "stage $scored measures with scorers that are not here:" \
        ".venv/bin/pip install -e '.[eval]' -c constraints.txt (or --to $((scored - 1)))"
  fi
  [ ${#given[@]} -eq 0 ] || subsets=("${given[@]}")
  if [ "$thumbnail" ]; then
    for part in $needs; do
      [ -d "$speech/$part" ] ||
        wrong "no real speech: $speech/$part is absent; name a folder that holds it by" \
          "VOICEFLOW_SPEECH_DIR or --speech"
    done
    [ "$processes_given" ] || processes=1
    data=data/thumbnail/$recipe runs=runs/thumbnail/$recipe workers=${workers:-1} budget=tiny
    fetch='' device=cpu overrides=("${small[@]}")
    networks=(model=tiny duration=tiny aligner=tiny vocoder=tiny)
  fi
  workers=${workers:-$(nproc)}
  overrides+=("${own[@]}")
  mkdir -p "$data" "$runs/done" "$speech" || wrong "$speech cannot be made; name another by --speech"
  speech=$(cd "$speech" && pwd)
  trap finish EXIT
}

# in_stage N TITLE: whether stage N is to be run; says so.
in_stage() {
  { [ "$1" -ge "$from" ] && [ "$1" -le "$to" ]; } || return 1
  stage=$1 changed=''
  titles[$1]="$2|$SECONDS"
  echo "== stage $1: $2"
}

# Say how long each stage took, and, where one failed, how to go on.
finish() {
  local code=$? number end=$SECONDS rows=()
  for number in $(printf '%s\n' "${!titles[@]}" | sort -rn); do
    rows=("$(printf '%5d  %8s  %s' "$number" "$(clock $((end - ${titles[number]##*|})))" \
      "${titles[number]%|*}")" "${rows[@]}")
    end=${titles[number]##*|}
  done
  [ ${#rows[@]} -eq 0 ] ||
    printf '== times\n%s\n  all  %8s\n' "$(printf '%s\n' "${rows[@]}")" "$(clock "$SECONDS")"
  [ "$code" -eq 0 ] ||
    echo "$here/run.sh: stage $stage ended with $code; --from $stage goes on from there" >&2
}

clock() { printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }

# once OUT COMMAND ...: give a command, unless the same words have made OUT before. What comes after
# a command that was given is given again too, and then goes on by itself.
once() {
  local out=$1 mark later
  shift
  mark=$runs/done/$stage-$(printf '%s\n' "$@" | cksum | cut -d ' ' -f 1)
  if [ -z "$changed" ] && [ -e "$out" ] && [ -e "$mark" ]; then
    echo "done before: $out"
    return
  fi
  changed=1
  for later in "$runs"/done/*; do
    later=${later##*/}
    [ "$later" = '*' ] || [ "${later%%-*}" -le "$stage" ] || rm -f "$runs/done/$later"
  done
  "$@"
  touch "$mark"
}

# settings NAME: the overrides in NAME.txt, where the recipe has it.
settings() { [ ! -f "$here/$1.txt" ] || grep -v '^#' "$here/$1.txt"; }

# keep_aside LJSPEECH EVERY [LIST]: $data/table.tsv of its sentences, or of those in LIST, for
# `voiceflow prepare table`, each EVERY-th as one of the speaker LJ-unseen; those in LibriSpeech's
# layout too: $data/kept/unseen.
keep_aside() {
  local kept=$data/kept/unseen/LJ/1
  mkdir -p "$kept"
  awk -F'|' -v every="$2" -v wavs="$1/wavs" -v kept="$kept/LJ-1.trans.txt" '
    BEGIN { OFS = "\t"; print "id", "audio", "text", "speaker"; printf "" > kept }
    { print $1, wavs "/" $1 ".wav", $3, NR % every ? "LJ" : "LJ-unseen" }
    NR % every == 0 { print $1 " " $3 > kept }' "${3:-$1/metadata.csv}" > "$data/table.tsv"
  cut -d ' ' -f 1 "$kept/LJ-1.trans.txt" | while read -r id; do
    ln -sf "$1/wavs/$id.wav" "$kept/$id.wav"
  done
}

# train TASK DATA OUT [KEY=VALUE ...]: a network, by conf/, TASK.txt, the words given here and the
# overrides, of which the last one counts. Velocity is trained by $processes, $batches an update.
train() {
  local task=$1 from_data=$2 out=$3 launch=(voiceflow) group=$budget shared=() crops=()
  shift 3
  if [ "$task" = velocity ]; then
    shared=("train.accumulate=$((batches > processes ? batches / processes : 1))")
    [ "$processes" -eq 1 ] ||
      launch=(env OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node "$processes" -m voiceflow)
  elif [ "$task" = vocoder ] && [ "$thumbnail" ]; then
    crops=(train.crop_frames=65 train.batch_frames=130)
  elif [ "$task" = vocoder ]; then
    group=vocoder
  fi
  # shellcheck disable=SC2046
  once "$out/$task" "${launch[@]}" train "task=$task" "data=$from_data" "out=$out" \
    "train=$group" "${networks[@]}" $(settings "$task") "${shared[@]}" "$@" \
    "${overrides[@]}" "${crops[@]}"
}
