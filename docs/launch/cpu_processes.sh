#!/usr/bin/env bash
# Two processes of one thread each.
OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node 2 -m voiceflow train task=velocity \
    data=data/train model=mini train=cpu out=runs/mini "$@"
