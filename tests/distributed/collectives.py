"""What ranks compute together: losses and gradients of the whole batch, images in order."""

import torch
from accelerate import Accelerator
from torch import nn

from segacc.data.loading.loader import rank_share
from segacc.runtime.ranks import gather_images
from segacc.training.losses import make_loss

accelerator = Accelerator(cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes


def gradients(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    accelerator.backward(loss)
    return [p.grad.clone() for p in model.parameters()]


torch.manual_seed(0)
plain = nn.Conv2d(3, 1, 3, padding=1)
wrapped = accelerator.prepare(nn.Conv2d(3, 1, 3, padding=1))
accelerator.unwrap_model(wrapped).load_state_dict(plain.state_dict())
images = torch.randn(8, 3, 16, 16)
share = 8 // world
mine = slice(rank * share, (rank + 1) * share)
for case in ("mixed", "empty", "full"):
    masks = (
        (torch.rand(8, 1, 16, 16) > 0.8).float() if case == "mixed" else torch.zeros(8, 1, 16, 16)
    )
    masks[:5] = masks[:5] * (case != "mixed")  # whole ranks without foreground
    masks += case == "full"
    for name in ("dice", "jaccard", "tversky", "bce", "focal", "lovasz", "dice+bce"):
        whole = make_loss(name)(plain(images), masks)
        part = make_loss(name, distributed=True)(wrapped(images[mine]), masks[mine])
        mean = accelerator.reduce(part.detach(), reduction="mean")
        torch.testing.assert_close(mean, whole.detach(), rtol=1e-5, atol=1e-7)
        if name in ("dice", "jaccard", "tversky"):  # the same number on every rank
            torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-7)
        for one, many in zip(gradients(plain, whole), gradients(wrapped, part), strict=True):
            torch.testing.assert_close(many, one, rtol=1e-4, atol=1e-7)
            assert one.abs().sum() > 0

for samples in (1, 2, 3, 7, 9):
    share = rank_share(samples, rank, world)
    counts = torch.tensor([[i, 10 * i] for i in share], dtype=torch.long).view(-1, 2)
    everything = gather_images(accelerator, samples, counts)
    assert everything.tolist() == [[i, 10 * i] for i in range(samples)], everything

if accelerator.is_main_process:
    print(f"equal on {world}")
accelerator.end_training()
