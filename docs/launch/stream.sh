#!/usr/bin/env bash
# Data that no disk here holds, read shard by shard.
voiceflow train task=velocity data=s3://bucket/train model=mini train=cpu train.workers=2 \
    out=runs/stream "$@"
