#!/bin/bash
# One task per GPU under Slurm, on one or more nodes. With the environment of segacc active, in the
# folder that is to hold runs/, and with the flags of training after the name of this script:
#   sbatch accelerate_configs/slurm.sh --dataset PATH --model unet
#   sbatch --nodes=2 --time=8:00:00 accelerate_configs/slurm.sh --dataset PATH --model unet
# Before the time is up, on preemption and on `scancel --signal=TERM ID` the run saves a state, and
# the job goes back into the queue and continues. `scancel ID` ends it. Errors are not repeated.
#SBATCH --job-name=segacc
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2           # GPUs of a node; --batch-size must divide by all tasks
#SBATCH --gpus-per-node=2             # not --gpus-per-task: LOCAL_RANK counts the node's GPUs
#SBATCH --cpus-per-task=6             # for the data workers
#SBATCH --time=24:00:00
#SBATCH --requeue --open-mode=append  # all its lives in one slurm-ID.out
#SBATCH --signal=TERM@120             # to the tasks, two to three minutes before the time is up

run=runs/$SLURM_JOB_NAME-$SLURM_JOB_ID  # the id stays when a job is requeued
if [ -e "$run/config.json" ]; then
  set -- --resume "$run"
else
  set -- "$@" --output-dir "$run"
fi

# What torchrun would set; a launcher would turn the exit code of training into 1.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT
# shellcheck disable=SC2016  # the task's shell is to expand them
task='export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
export WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE
exec python -m segacc train "$@"'

# Preemption and scancel also tell this shell, which then still has to wait for the tasks. When a
# task ends, the others have a minute to do so; --kill-on-bad-exit would disturb those that save.
# segacc shares the node's cores among its tasks by itself, so srun must not bind them.
trap : TERM
srun --kill-on-bad-exit=0 --wait=60 --cpus-per-task="$SLURM_CPUS_PER_TASK" --cpu-bind=none \
  bash -c "$task" train "$@"
code=$?
if [ "$code" -eq 75 ]; then  # saved; Incomplete: but not if it was cancelled in the meantime
  scontrol requeue Incomplete "$SLURM_JOB_ID"
fi
exit "$code"
