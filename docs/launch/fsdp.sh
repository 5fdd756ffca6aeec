#!/usr/bin/env bash
# Eight GPUs that hold an eighth of the network each.
torchrun --standalone --nproc_per_node 8 -m voiceflow train task=velocity data=data/train \
    model=voicebox330m train=gpu train.accumulate=1 train.fsdp=true out=runs/voicebox330m "$@"
