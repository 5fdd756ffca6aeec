#!/usr/bin/env bash
# All GPUs of this machine, or as `accelerate config` says.
accelerate launch -m voiceflow train task=velocity data=data/train model=base train=gpu \
    train.accumulate=1 out=runs/base "$@"
