"""segacc as it is: fit() with nothing left out, told when it has its turn."""

from __future__ import annotations

import tempfile

from benchmarks.contenders.turns import Task, Turns, task


def main(task: Task) -> None:
    from segacc import loop
    from segacc.config import parse_train

    turns = Turns()
    set_up, train_step, validate, last = (
        loop.set_up,
        loop.train_step,
        loop.validate,
        loop.log_epoch_pictures,
    )
    writers: list[loop.Writer] = []
    waited, steps = 0.0, 0

    def first_turn(config):  # type: ignore[no-untyped-def]
        job = set_up(config)
        turns.wait()
        return job

    def step(*args):  # type: ignore[no-untyped-def]
        nonlocal waited, steps
        result, wait = train_step(*args)
        waited, steps = waited + wait, steps + 1
        turns.stepped()
        return result, wait

    def validated(*args):  # type: ignore[no-untyped-def]
        turns.trained()
        return validate(*args)

    def over(*args):  # type: ignore[no-untyped-def]
        nonlocal waited, steps
        last(*args)
        turns.done(images=steps * task.batch_size, data_wait=waited)
        waited, steps = 0.0, 0
        writers[-1].wait()  # in its own turn, though a run goes on beside it
        turns.wait()

    class Writer(loop.Writer):
        def __init__(self, *args, **named):  # type: ignore[no-untyped-def]
            super().__init__(*args, **named)
            writers.append(self)

    loop.set_up, loop.train_step, loop.validate = first_turn, step, validated
    loop.log_epoch_pictures, loop.Writer = over, Writer  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--dataset", str(task.data), "--model", task.model, "--weights", "none"]
        flags += ["--size", str(task.size), "--batch-size", str(task.batch_size), "--flips", "h"]
        flags += ["--crop", str(task.crop)] if task.crop else []
        flags += ["--tracker", "none", "--precision", task.precision]
        flags += ["--epochs", str(task.epochs), "--patience", "1000"]
        loop.fit(parse_train([*flags, "--output-dir", f"{folder}/run"]))


if __name__ == "__main__":
    main(task())
