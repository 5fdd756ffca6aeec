#!/usr/bin/env bash
# One process on the CPU.
voiceflow train task=velocity data=data/train model=mini train=cpu out=runs/mini "$@"
