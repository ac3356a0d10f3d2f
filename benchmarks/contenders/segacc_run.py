"""segacc as it is: fit() with nothing left out, told when it has its turn."""

from __future__ import annotations

import tempfile
import time

from benchmarks.contenders.turns import Task, Turns, task


def do_without(default: str) -> list[str]:
    """Undo one of the defaults; flags of train.py that do."""
    import torch

    from segacc.training import setup

    build_model, make_optimizer = setup.build_model, setup.make_optimizer

    def other_format(*args, **named):  # type: ignore[no-untyped-def]
        built = build_model(*args, **named)
        last = built.model.memory_format == torch.channels_last
        built.model.memory_format = torch.contiguous_format if last else torch.channels_last
        built.model.to(memory_format=built.model.memory_format)
        return built

    def not_fused(*args):  # type: ignore[no-untyped-def]
        optimizer = make_optimizer(*args)
        for group in optimizer.param_groups:
            group["fused"] = None  # PyTorch's default
        return optimizer

    if default == "memory":
        setup.keep_memory = lambda: None
    elif default == "format":
        setup.build_model = other_format
    elif default == "fused":
        setup.make_optimizer = not_fused
    elif default == "threads":
        setup.set_threads = lambda _: torch.set_num_threads(1) or 1
    elif default in ("1 worker", "2 workers"):
        return ["--workers", default[0]]
    elif default == "compile":
        return ["--compile"]
    else:
        raise SystemExit(f"--without {default} is not known")
    return []


def main(task: Task) -> None:
    import torch

    from segacc.config import parse_train
    from segacc.prediction import logits as inference
    from segacc.training import fit as loop

    turns = Turns()
    undone = do_without(task.without) if task.without else []
    set_up, train_step, validate, last = (
        loop.set_up,
        loop.train_step,
        loop.validate,
        loop.log_epoch_pictures,
    )
    writers: list[loop.Writer] = []
    waited, steps, in_model, given = 0.0, 0, 0.0, 0.0

    def first_turn(config):  # type: ignore[no-untyped-def]
        job = set_up(config)
        schedule_step = job.schedule.step

        def stepped():  # type: ignore[no-untyped-def]
            nonlocal in_model
            in_model += time.perf_counter() - given
            schedule_step()

        job.schedule.step = stepped
        turns.wait()
        return job

    def to_device(*args):  # type: ignore[no-untyped-def]
        nonlocal given
        batch = loaded(*args)
        given = time.perf_counter()
        return batch

    def predict(*args):  # type: ignore[no-untyped-def]
        nonlocal in_model
        began = time.perf_counter()
        logits = predict_logits(*args)
        in_model += time.perf_counter() - began
        return logits

    def step(*args):  # type: ignore[no-untyped-def]
        nonlocal waited, steps
        result, wait = train_step(*args)
        waited, steps = waited + wait, steps + 1
        away = turns.away
        turns.stepped()
        saved_later(turns.away - away)
        return result, wait

    def saved_later(seconds):  # type: ignore[no-untyped-def]
        for writer in writers:  # a state is due by the clock, which went on in others' turns
            writer._saved_at += seconds

    def validated(*args):  # type: ignore[no-untyped-def]
        turns.trained()
        return validate(*args)

    def over(*args):  # type: ignore[no-untyped-def]
        nonlocal waited, steps, in_model
        last(*args)
        # What a GPU does is not in the seconds of the calls.
        share = {} if torch.cuda.is_available() else {"in_model": in_model}
        turns.done(images=steps * task.batch_size, data_wait=waited, **share)
        waited, steps, in_model = 0.0, 0, 0.0
        writers[-1].wait()  # in its own turn, though a run goes on beside it
        gone = time.monotonic()
        turns.wait()
        saved_later(time.monotonic() - gone)

    class Writer(loop.Writer):
        def __init__(self, *args, **named):  # type: ignore[no-untyped-def]
            super().__init__(*args, **named)
            writers.append(self)

    loaded, predict_logits = loop.to_device, inference.predict_logits
    loop.to_device, inference.predict_logits = to_device, predict
    loop.set_up, loop.train_step, loop.validate = first_turn, step, validated
    loop.log_epoch_pictures, loop.Writer = over, Writer  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--dataset", str(task.data), "--model", task.model, "--weights", "none"]
        flags += ["--size", str(task.size), "--batch-size", str(task.batch_size), "--flips", "h"]
        flags += ["--crop", str(task.crop)] if task.crop else []
        flags += ["--tracker", "none", "--precision", task.precision, *undone]
        flags += ["--epochs", str(task.epochs), "--patience", "1000"]
        loop.fit(parse_train([*flags, "--output-dir", f"{folder}/run"]))


if __name__ == "__main__":
    main(task())
