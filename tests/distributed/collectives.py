"""Over ranks, losses and gradients are those of the whole batch; images are gathered in order."""

import torch
from accelerate import Accelerator
from torch import nn

from segacc.data.loading.loader import rank_share
from segacc.labels import IGNORE
from segacc.runtime.ranks import gather_images
from segacc.training.losses.terms import PIXEL_LOSSES, PLAIN, PixelOptions, make_loss

accelerator = Accelerator(cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes


def gradients(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    accelerator.backward(loss)
    return [p.grad.clone() for p in model.parameters()]


def check_losses(
    case: str,
    names: tuple[str, ...],
    logits: int,
    label_maps: torch.Tensor,
    options: PixelOptions = PLAIN,
) -> None:
    """Loss and gradient of all ranks' samples are those of one rank that has all of them."""
    plain = nn.Conv2d(3, logits, 3, padding=1)
    wrapped = accelerator.prepare(nn.Conv2d(3, logits, 3, padding=1))
    accelerator.unwrap_model(wrapped).load_state_dict(plain.state_dict())
    for name in names:
        whole = make_loss(name, options=options)(plain(images), label_maps)
        expected = gradients(plain, whole)
        loss_fn = make_loss(name, distributed=True, options=options)
        can_have_parts = name in PIXEL_LOSSES and options.ohem is None
        for parts in (1, 2) if can_have_parts else (1,):
            logits, labels = wrapped(images[mine]).chunk(parts), label_maps[mine]
            pairs = zip(logits, labels.chunk(parts), strict=True)
            loss = torch.stack([loss_fn(*pair, labels) for pair in pairs]).mean()
            # The same number on every rank.
            torch.testing.assert_close(loss, whole, rtol=1e-5, atol=1e-7, msg=f"{case} {name}")
            for one, many in zip(expected, gradients(wrapped, loss), strict=True):
                torch.testing.assert_close(many, one, rtol=1e-4, atol=1e-7, msg=f"{case} {name}")
                assert one.abs().sum() > 0


torch.manual_seed(0)
images = torch.randn(8, 3, 16, 16)
share = 8 // world
mine = slice(rank * share, (rank + 1) * share)
some = (torch.rand(8, 16, 16) > 0.8).to(torch.uint8)
some[:5] = 0  # so that whole ranks have no foreground
classes = torch.randint(0, 3, (8, 16, 16)).to(torch.uint8)  # of four, so that one is absent
ignored = torch.rand(8, 16, 16) < torch.tensor([0.9, 0, 1, 0.5, 0, 0, 0.1, 0]).view(8, 1, 1)
names = ("dice", "jaccard", "tversky", "bce", "focal", "lovasz", "dice+bce")
check_losses("mixed", names, 1, some)
check_losses("empty", names, 1, torch.zeros_like(some))
check_losses("full", names, 1, torch.ones_like(some))
check_losses("ignored", names, 1, some.where(~ignored, IGNORE))
check_losses("classes", names, 4, classes)
check_losses("classes and ignored", names, 4, classes.where(~ignored, IGNORE))
one_rank = torch.arange(8).view(8, 1, 1) < share  # on which no pixel counts
check_losses("a rank is ignored", names, 4, classes.where(~one_rank, IGNORE))
only_first = classes.clone()
only_first[share:] = classes[share:].clamp_max(1)  # class 2 is on one rank
check_losses("a class on one rank", names, 4, only_first)
weighed = PixelOptions((0.5, 2.0, 3.0, 0.0), ohem=0.3, label_smoothing=0.1)
check_losses("weighed", ("ce", "focal"), 4, only_first.where(~ignored, IGNORE), weighed)
weighed = PixelOptions((0.5, 2.0, 3.0, 0.0))
check_losses("weighed parts", ("ce", "focal"), 4, only_first.where(~ignored, IGNORE), weighed)
weighed = PixelOptions((0.5, 2.0), ohem=0.1)
check_losses("weighed", ("ce", "focal", "dice+ce"), 1, some.where(~ignored, IGNORE), weighed)

for samples in (1, 2, 3, 7, 9):
    share = rank_share(samples, rank, world)
    counts = torch.tensor([[i, 10 * i] for i in share], dtype=torch.long).view(-1, 2)
    everything = gather_images(accelerator, samples, counts)
    assert everything.tolist() == [[i, 10 * i] for i in range(samples)], everything

if accelerator.is_main_process:
    print(f"equal on {world}")
accelerator.end_training()
