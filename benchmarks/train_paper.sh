#!/usr/bin/env bash
# The DE paper's own model at its own size (36.80 M parameters): trained on RICE2, measured, and packed. Unattended.
#
#   benchmarks/train_paper.sh DATA OUT              DATA holds cloud/ and label/ of RICE2's 589 training pairs
#   ONCE=1 benchmarks/train_paper.sh DATA OUT       one call of training (at most BOX minutes), then exit status 75
#   REHEARSE=1 benchmarks/train_paper.sh DATA OUT   (images of 128 pixels or more) the same commands, tiny: some minutes on a CPU, proves the chain
#
# The same command again goes on where the last one stopped, after any interruption. OUT gets
#   runs/ checkpoints and learning curves   models/ model files   tables/ figures/ evaluate/ the measurements
#   shards/ the model in half precision, in parts below 16 MiB, with checksums and how to join them
set -euo pipefail

DATA=${1:?usage: train_paper.sh DATA OUT}
OUT=${2:?usage: train_paper.sh DATA OUT}
UNCLOUDED=${UNCLOUDED:-unclouded}
PYTHON=${PYTHON:-python}
BOX=${BOX:-9}             # minutes of one call: lent machines end a command after 10
WORKERS=${WORKERS:-8}     # an H200's coarse stage eats about 64 crops a step; one process cannot cut them fast enough
PRECISION=${PRECISION:-bf16}
DEVICE=${DEVICE:-auto}
SHARD=${SHARD:-15M}

# The paper states batch sizes (64 at 64×64, 16 at 256×256), learning rate 1e-5 and EMA 0.9999, which the recipe has,
# but no iteration counts. These are ours, as passes over the 529 training pairs; how long they take on a GPU is not measured:
STEPS_PRIOR=${STEPS_PRIOR:-40000}     # batch 16: 1200 passes; the prior is a small network that learns from scratch
STEPS_COARSE=${STEPS_COARSE:-200000}  # batch 64: 24000 passes of 64×64 crops; lr 1e-5 is slow, and this stage is cheap
STEPS_FINE=${STEPS_FINE:-50000}       # batch 16 at 256×256: the pixels of the coarse stage, for Table VIII's other row
STEPS_WEIGHTS=${STEPS_WEIGHTS:-20000} # batch 16: 600 passes; WA starts from scratch with everything else frozen
STEPS_JOINT=${STEPS_JOINT:-20000}     # batch 16: 600 passes; CNP and WA together
TRAIN_SPLIT=${TRAIN_SPLIT:-rice2-train}
VAL_SPLIT=${VAL_SPLIT:-rice2-val}

mkdir -p "$OUT"/{runs,models,tables,figures,evaluate,shards}
COMMON=() EVAL=() SIZES=() COST=(--size 256 --repeats 5) COST_STEPS=(50 10)
if [ -n "${REHEARSE:-}" ]; then
  STEPS_PRIOR=3 STEPS_COARSE=4 STEPS_FINE=3 STEPS_WEIGHTS=3 STEPS_JOINT=3
  BOX=${REHEARSE_BOX:-0.2} WORKERS=1 DEVICE=cpu SHARD=256K
  ls "$DATA/cloud" | sed 's/\..*//' | sort -n | head -6 > "$OUT/train.txt"
  ls "$DATA/cloud" | sed 's/\..*//' | sort -n | tail -2 > "$OUT/val.txt"
  TRAIN_SPLIT=$OUT/train.txt VAL_SPLIT=$OUT/val.txt
  COMMON=(--set model.cnp.channels=16 --set model.wa.channels=16 --set model.cnp.res_blocks=1 --set model.wa.res_blocks=1
          --set 'model.prior_options={features: 8}' --set validation_limit=1 --set sampling.steps=2)
  SIZES=(batch_size=2 size=32)
  EVAL=(--limit 2 --steps 2 --device cpu) COST=(--size 32 --repeats 1) COST_STEPS=(1)
fi
COMMON+=(--set "sources.0.split=$TRAIN_SPLIT" --set "validation.0.split=$VAL_SPLIT")

say() { echo "$(date -u +%H:%M:%S) $*" >&2; }

# state CHECKPOINT -> "step done", "0 False" where there is none
state() {
  "$PYTHON" - "$1" <<'PY'
import pathlib, sys, torch
path = pathlib.Path(sys.argv[1])
kept = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if path.exists() else {"step": 0, "done": False}
print(kept["step"], kept["done"])
PY
}

# settings NAME -> the --set options of all stages that the recipe has (each call gives all of them: they are its identity)
settings() {
  local stage steps
  for stage in $(stages "$1"); do
    steps=STEPS_${stage^^}
    [ "$1/$stage" = de-msda-rice2-fine/coarse ] && steps=STEPS_FINE
    printf '%s\n' --set "stages.$stage.steps=${!steps}" --set "stages.$stage.validate_every=$((${!steps} / 8 + 1))"
    for size in ${SIZES[@]+"${SIZES[@]}"}; do printf '%s\n' --set "stages.$stage.$size"; done
  done
}

stages() { if [ "$1" = de-msda-rice2-weights ]; then echo prior coarse weights; else echo prior coarse weights joint; fi; }

# train NAME: all its stages, call after call of at most BOX minutes
train() {
  local name=$1 run=$OUT/runs/$1 stage before after idle sets
  mapfile -t sets < <(settings "$name")
  for stage in $(stages "$name"); do
    idle=0
    while before=$(state "$run/$stage.ckpt"); [ "${before#* }" != True ]; do
      say "$name $stage: at step ${before% *}"
      "$UNCLOUDED" train "$name" --data "$DATA" --out "$run" --stage "$stage" --max-minutes "$BOX" --workers "$WORKERS" \
        --precision "$PRECISION" --device "$DEVICE" "${COMMON[@]}" "${sets[@]}"
      after=$(state "$run/$stage.ckpt")
      [ "${after#* }" = True ] || [ -z "${ONCE:-}" ] || exit 75
      if [ "$before" = "$after" ]; then idle=$((idle + 1)); else idle=0; fi
      if [ "$idle" -ge 3 ]; then say "$name $stage makes no step in $BOX minutes: raise BOX"; exit 1; fi
    done
  done
  # writes the model also where every checkpoint came from another run
  [ -f "$run/$name.safetensors" ] || "$UNCLOUDED" train "$name" --data "$DATA" --out "$run" --device "$DEVICE" \
    --precision "$PRECISION" "${COMMON[@]}" "${sets[@]}"
  cp "$run/$name.safetensors" "$OUT/models/$name.safetensors"
}

# share FROM TO STAGE...: TO begins with finished stages of FROM, which are the same there, and with their curves
share() {
  local from=$OUT/runs/$1 to=$OUT/runs/$2 stage
  mkdir -p "$to"
  for stage in "${@:3}"; do
    [ -f "$to/$stage.ckpt" ] && continue
    cp "$from/$stage.ckpt" "$to/$stage.ckpt.part" && mv "$to/$stage.ckpt.part" "$to/$stage.ckpt"
    grep "\"stage\": \"$stage\"" "$from/log.jsonl" >> "$to/log.jsonl"
  done
}

# make FILE COMMAND...: the command's output becomes FILE when it succeeds; not run again
make_file() {
  [ -s "$1" ] && return
  say "$(basename "$1")"
  "${@:2}" > "$1.part" && mv "$1.part" "$1"
}

# 1. Table V's model; 2. Table IX's without the joint stage; 3. Table VIII's without the coarse stage
train de-msda-rice2
share de-msda-rice2 de-msda-rice2-weights prior coarse weights
train de-msda-rice2-weights
share de-msda-rice2 de-msda-rice2-fine prior
train de-msda-rice2-fine
for run in "$OUT"/runs/*/; do cp "$run/log.jsonl" "$OUT/tables/curve-$(basename "$run").jsonl"; done

# 4. Measurements on the validation list, `paper` protocol, 95 % intervals over its images
MODEL=$OUT/models/de-msda-rice2.safetensors
ON=(--data "$DATA" --split "$VAL_SPLIT")
make_file "$OUT/evaluate/input.json" "$UNCLOUDED" evaluate --model "$MODEL" "${ON[@]}" --input --json ${EVAL[@]+"${EVAL[@]}"}
make_file "$OUT/evaluate/prior.json" "$UNCLOUDED" evaluate --model "$MODEL" "${ON[@]}" --prior-only --json \
  --out "$OUT/evaluate/prior" ${EVAL[@]+"${EVAL[@]}"}
make_file "$OUT/evaluate/de.json" "$UNCLOUDED" evaluate --model "$MODEL" "${ON[@]}" --json --out "$OUT/evaluate/de" \
  --against "$OUT/evaluate/prior/per_image.csv" ${EVAL[@]+"${EVAL[@]}"}
for table in table5 table8 table9; do
  make_file "$OUT/tables/$table.json" "$UNCLOUDED" paper "$table" --models "$OUT/models" --data "rice2=$DATA" \
    --split "rice2=$VAL_SPLIT" --out "$OUT/tables" --json ${EVAL[@]+"${EVAL[@]}"}
done
for figure in fig9 fig11; do
  make_file "$OUT/figures/$figure.json" "$UNCLOUDED" paper "$figure" --model "$MODEL" "${ON[@]}" \
    --out "$OUT/figures" --json ${EVAL[@]+"${EVAL[@]}"}
done
# Table X at the paper's 50 steps and at 10: operations, memory, images per second (a full-size network of fresh weights)
for steps in "${COST_STEPS[@]}"; do
  make_file "$OUT/tables/table10-$steps.json" "$UNCLOUDED" paper table10 --only MSDA-CR --only DE-MSDA --steps "$steps" \
    "${COST[@]}" --device "$DEVICE" --out "$OUT/tables/table10-$steps" --json
done

# 5. Shards that fit any carrier; model files hold half precision already
cd "$OUT/shards"
NAME=de-msda-rice2.safetensors
if ! [ -s JOIN.txt ]; then
  rm -f "$NAME".part-*
  split -b "$SHARD" -d -a 3 "../models/$NAME" "$NAME.part-"
  (cd ../models && sha256sum "$NAME") > SHA256
  sha256sum "$NAME".part-* > SHA256.parts
  [ "$(cat "$NAME".part-* | sha256sum | cut -d' ' -f1)" = "$(cut -d' ' -f1 SHA256)" ]
  echo "sha256sum -c SHA256.parts && cat $NAME.part-* > $NAME && sha256sum -c SHA256" > JOIN.txt
fi
say "done: $(ls "$NAME".part-* | wc -l) shards; join them with: $(cat JOIN.txt)"
