#!/usr/bin/env bash
# Eight GPUs of one machine: a batch of 30 000 frames each, 240 000 an update as in the paper.
torchrun --standalone --nproc_per_node 8 -m voiceflow train task=velocity data=data/train \
    model=voicebox330m train=gpu train.accumulate=1 out=runs/voicebox330m "$@"
