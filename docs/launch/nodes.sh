#!/usr/bin/env bash
# On each of two machines with eight GPUs; HOST is the name of one of them, the same on both.
torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint "$HOST:29500" \
    -m voiceflow train task=velocity data=data/train model=voicebox330m train=gpu \
    train.accumulate=1 train.batch_frames=15000 out=runs/voicebox330m "$@"
