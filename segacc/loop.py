"""fit(): the one training loop."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.layers import convert_sync_batchnorm
from tqdm import tqdm

from segacc.checkpoint import (
    Progress,
    disk_errors,
    load_state,
    newest_state,
    save_best,
    save_state,
)
from segacc.config import InputError, TrainConfig, to_json
from segacc.data.augment import stream_seed
from segacc.data.loader import StepSampler, TrainSamples, epoch_end, to_device, train_loader
from segacc.data.prepare import Split, prepare
from segacc.data.sources import load_dataset
from segacc.inference import gather_images, predict_split
from segacc.launch import (
    check_batch,
    check_batchnorm,
    check_data,
    cores_of_process,
    make_accelerator,
    memory_gib,
    on_main,
    set_threads,
)
from segacc.losses import make_loss
from segacc.metrics import count_pixels, scores
from segacc.models import Segmenter
from segacc.optim import make_optimizer, make_schedule
from segacc.record import banner, check_output_dir, model_card, open_run
from segacc.tracking import append_line, check_tracker, keep_epochs, start_tracker
from segacc.weights import Built, build_model, load_segmenter


def fit(config: TrainConfig) -> Path:
    """Train as `config` (with its protocol filled in) says and return the run's folder.

    Raises:
        InputError: what the user gave cannot work; said before the first step where possible.
    """
    assert config.size is not None and config.flips is not None and config.weights is not None
    # What can be wrong is looked at in order of what it costs to find out.
    make_loss(config.loss)
    check_tracker(config.tracker)
    accelerator = make_accelerator(config.precision)
    main, world = accelerator.is_main_process, accelerator.num_processes
    cuda = accelerator.device.type == "cuda"
    check_batch(config, world)
    if main and not config.resume:
        check_output_dir(config.output_dir)
    threads = set_threads(accelerator)
    source = load_dataset(config.dataset)

    set_seed(config.seed)
    state = newest_state(config.resume) if config.resume else None
    if config.resume and state:  # needs no pretrained weights, and so no network
        built = Built(load_segmenter(config.resume), f"of {state}")
    else:
        built = build_model(config.model, config.encoder, config.weights)
    segmenter = built.model
    segmenter.freeze(config.freeze_encoder, config.freeze_bn)
    check_batchnorm(config, segmenter, world, cuda)
    data = prepare(source, config.size)
    check_data(config, data)
    train, valid = data.splits["train"], data.splits["valid"]

    if cuda and world > 1 and not config.freeze_bn:
        # Names, and so saved models, stay those of plain BatchNorm, which also runs on a CPU.
        # timm's conversion, unlike torch's, keeps the activation of its norm-and-act layers.
        segmenter = convert_sync_batchnorm(segmenter)
    optimizer = make_optimizer(segmenter, config.lr, config.weight_decay)
    total_steps = epoch_end(config.epochs - 1, config.batch_size, len(train))
    schedule = make_schedule(optimizer, config.warmup, total_steps)
    accelerator.gradient_accumulation_steps = config.accumulate
    model, optimizer = accelerator.prepare(segmenter, optimizer)
    loss_fn = make_loss(config.loss, distributed=world > 1)

    run, run_id = on_main(accelerator, lambda: open_run(config, data, segmenter, accelerator))
    stateful = {"optimizer": optimizer, "schedule": schedule}
    if accelerator.scaler is not None:
        stateful["scaler"] = accelerator.scaler
    progress = Progress()
    if state:
        progress = load_state(state, segmenter, stateful)
    workers = config.workers
    if workers is None:
        workers = min(4, cores_of_process()) if cuda else 0
    sampler = StepSampler(
        samples=len(train),
        batch_size=config.batch_size,
        seed=config.seed,
        start=progress.step,
        stop=total_steps,
        accumulate=config.accumulate,
        rank=accelerator.process_index,
        world_size=world,
    )
    samples = TrainSamples(train, config.flips, config.crop, config.seed)
    batches = iter(train_loader(samples, sampler, workers, pin_memory=cuda))
    tracker = start_tracker(accelerator, config.tracker, run, run_id, to_json(config))
    if main:
        steps = math.ceil(len(train) / config.batch_size)
        print(banner(config, accelerator, data, segmenter, built.weights, threads, workers, steps))
        print(f"  tracker     {tracker}\n  run         {run}", flush=True)
        if config.resume:
            with disk_errors(run):
                keep_epochs(run, progress.epoch)
            print(f"  resumed     after epoch {progress.epoch}", flush=True)

    try:
        while progress.epoch < config.epochs and progress.epochs_without_gain < config.patience:
            epoch, first_step = progress.epoch + 1, progress.step
            last_step = epoch_end(progress.epoch, config.batch_size, len(train))
            bar = tqdm(
                total=last_step - first_step,
                desc=f"epoch {epoch}/{config.epochs}",
                unit="step",
                leave=False,
                disable=not main or not sys.stderr.isatty(),
            )
            model.train()
            started, waited, shown = time.perf_counter(), 0.0, 0.0
            loss_sum = torch.zeros((), device=accelerator.device)
            for step in range(first_step, last_step):
                # Dropout, too, is a function of the step, so that a resumed run draws it again.
                torch.manual_seed(stream_seed(config.seed, step, accelerator.process_index))
                for _ in range(config.accumulate):
                    asked = time.perf_counter()
                    batch = next(batches)
                    waited += time.perf_counter() - asked
                    images, masks = to_device(batch, accelerator.device)
                    with accelerator.accumulate(model):
                        loss = loss_fn(model(images), masks)
                        accelerator.backward(loss)
                        if accelerator.sync_gradients and config.clip:
                            accelerator.clip_grad_norm_(model.parameters(), config.clip)
                        optimizer.step()
                        optimizer.zero_grad()
                    loss_sum += loss.detach() / config.accumulate
                schedule.step()
                bar.update()
                now = time.perf_counter()
                if not bar.disable and (now - shown > 0.5 or step + 1 == last_step):
                    # Reading the loss waits for the GPU, so it is not done at every step.
                    done, took, shown = step + 1 - first_step, now - started, now
                    bar.set_postfix_str(
                        f"loss {loss_sum.item() / done:.4f}, "
                        f"{done * config.batch_size / took:.1f} img/s, "
                        f"data_wait {waited / took:.1%}"
                    )
            bar.close()
            mean_loss = loss_sum / (last_step - first_step)
            train_loss = accelerator.reduce(mean_loss, reduction="mean").item()
            train_seconds = time.perf_counter() - started
            check_finite("training", train_loss, progress, run)

            found = validate(segmenter, valid, accelerator, config)
            check_finite("validation", found["loss"], progress, run)
            progress = progress.after_epoch(last_step, found["iou"])
            line = {
                "epoch": epoch,
                "step": last_step,
                "train_loss": train_loss,
                **{f"valid_{name}": value for name, value in found.items()},
                "lr": schedule.get_last_lr()[0],
                "img_per_s": (last_step - first_step) * config.batch_size / train_seconds,
                "data_wait": waited / train_seconds,
                "seconds": time.perf_counter() - started,
                "memory_gib": memory_gib(accelerator.device),
            }
            if main:
                with disk_errors(run):
                    if progress.best_epoch == epoch:
                        save_best(run, segmenter, model_card(config, line))
                    append_line(run, line)
                    save_state(run, progress, segmenter, stateful)
                print(epoch_line(line, progress, config.epochs), flush=True)
            accelerator.log(line, step=last_step)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the GPU has too little memory for --batch-size {config.batch_size} over {world} "
            f"processes in {config.accumulate} parts: give a larger --accumulate, or a smaller "
            "--crop, --size or --batch-size."
        ) from error
    except KeyboardInterrupt:
        if main:
            print(f"\ninterrupted; continue with: train.py --resume {run}", file=sys.stderr)
        raise

    accelerator.end_training()
    if main:
        score = f"python evaluate.py {run}" + " --split valid" * ("test" not in data.splits)
        why = "patience ran out" if progress.epoch < config.epochs else "all epochs are done"
        print(
            f"\n{why}: best epoch {progress.best_epoch} of {progress.epoch}, validation iou "
            f"{progress.best_iou:.4f}, its model in {run / 'best'}\nnext: {score}",
            flush=True,
        )
    return run


def check_finite(kind: str, loss: float, progress: Progress, run: Path) -> None:
    """Raises InputError for a loss that is NaN or infinite; it is the same number on all ranks."""
    if not math.isfinite(loss):
        kept = f"the state after epoch {progress.epoch}" if progress.epoch else "no state yet"
        raise InputError(
            f"the {kind} loss is {loss} in epoch {progress.epoch + 1}; there is {kept} in {run}: "
            "start again with a lower --lr, or with --precision fp32."
        )


def validate(
    segmenter: Segmenter, valid: Split, accelerator: Accelerator, config: TrainConfig
) -> dict[str, float]:
    """Scores of the validation split on full images, and the mean of the images' own losses.

    Neither depends on how the images are spread over batches and ranks.
    """
    if accelerator.num_processes > 1:
        # Plain BatchNorm drifts apart between ranks; DDP's next step takes rank 0's as well.
        for buffer in segmenter.buffers():
            torch.distributed.broadcast(buffer, 0)
    segmenter.eval()
    loss_fn = make_loss(config.loss)
    # As many pixels at a time as a training step holds.
    pixels = (config.crop or config.size or 0) ** 2 * config.batch_size
    batch_size = max(1, pixels // ((config.size or 1) ** 2 * accelerator.num_processes))
    counts = [torch.zeros(0, 1, 4, dtype=torch.long, device=accelerator.device)]
    losses = [torch.zeros(0, device=accelerator.device)]
    for _, logits, masks in predict_split(segmenter, valid, accelerator, batch_size):
        counts.append(count_pixels(logits.sigmoid(), masks))
        for image_logits, image_masks in zip(logits.split(1), masks.split(1), strict=True):
            losses.append(loss_fn(image_logits, image_masks).view(1))
    all_losses = gather_images(accelerator, len(valid), torch.cat(losses))
    all_counts = gather_images(accelerator, len(valid), torch.cat(counts))
    return {"loss": all_losses.double().mean().item(), **scores(all_counts)}


def epoch_line(line: dict[str, float], progress: Progress, epochs: int) -> str:
    """One epoch as a line for the terminal."""
    best = "best" if progress.best_epoch == line["epoch"] else f"best {progress.best_iou:.4f}"
    return (
        f"epoch {line['epoch']:>3}/{epochs}  loss {line['train_loss']:.4f} train "
        f"{line['valid_loss']:.4f} valid  iou {line['valid_iou']:.4f}  "
        f"iou_image {line['valid_iou_image']:.4f}  lr {line['lr']:.2e}  "
        f"{line['img_per_s']:.1f} img/s  wait {line['data_wait']:.1%}  "
        f"{line['seconds']:.1f} s  {best}"
    )
