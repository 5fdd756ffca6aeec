#!/usr/bin/env bash
#SBATCH --job-name=voiceflow
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=10
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

# One task a GPU, without torchrun: signals and exit codes go straight through.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT OMP_NUM_THREADS=1

asked=
trap 'asked=1; kill -USR1 "$step"' USR1 # two minutes before the end: save and leave with 75

srun --kill-on-bad-exit=0 --wait=120 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec "$@"' task \
    voiceflow train task=velocity data=data/train model=voicebox330m train=gpu \
    train.accumulate=1 train.batch_frames=15000 out=runs/voicebox330m "$@" &
step=$!
wait "$step"
code=$?
if [ "$asked" ]; then # the signal ended that wait
    wait "$step"
    code=$?
fi
if [ "$asked" ] && [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
