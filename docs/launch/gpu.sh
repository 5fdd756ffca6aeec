#!/usr/bin/env bash
# One GPU: 8 batches of 30 000 frames an update.
voiceflow train task=velocity data=data/train model=base train=gpu out=runs/base "$@"
