"""One ResNet-50, three tasks, three methods: train, save, load in a new process, switch, merge."""

import subprocess
import sys

import torch
from torch import Tensor, nn

import adapt
from adapt.core.base import random_base

# Twenty steps are too few for running statistics of a task's own: keep those of the base.
adapters, norms = ("residual_adapter", {"norm": "frozen"}, 1e-4), ("bn", {"norm": "affine"}, 1e-2)
METHODS = {"colour": adapters, "stripes": norms, "brightness": ("side_tuning", {}, 1e-3)}
# Online, adapt.load_base("torchvision/resnet50") gives the network that was trained on ImageNet.
base = random_base("torchvision/resnet50")
heads = nn.ModuleDict({task: nn.Linear(2048, 2) for task in METHODS})


def examples(task: str, seed: int) -> tuple[Tensor, Tensor]:
    """Sixteen noisy images: red or blue, with horizontal or vertical stripes, dark or bright?"""
    torch.manual_seed(seed)
    images, labels = torch.randint(0, 120, (16, 3, 64, 64)), torch.arange(16) % 2
    for image, label in zip(images, labels.tolist(), strict=True):
        stripes, lit = image[:, :, ::4] if label else image[:, ::4], image[:, :, : 64 * label]
        {"colour": image[2 * label], "stripes": stripes, "brightness": lit}[task].add_(120)
    return images.to(torch.uint8), labels


def train() -> None:
    """Add the tasks to one base and train each of them with its head."""
    adapted = adapt.Adapted(base, image_size=64)
    for task, (method, settings, rate) in METHODS.items():
        adapted.add(task, method, **settings)
        optimiser = torch.optim.Adam([*adapted.trainable(), *heads[task].parameters()], lr=rate)
        for step in range(20):
            images, labels = examples(task, step)
            nn.functional.cross_entropy(heads[task](adapted(images)), labels).backward()
            optimiser.step()
            optimiser.zero_grad()
        print(f"{task} by {method}: {adapted.budget()}")
    adapted.save("three_tasks")
    torch.save(heads.state_dict(), "three_tasks/heads.pt")
    subprocess.run([sys.executable, __file__, "use"], check=True)


def use() -> None:
    """In a new process: load the tasks, switch between them, and fold one into a plain network."""
    adapted = adapt.load(base, "three_tasks").eval()
    heads.load_state_dict(torch.load("three_tasks/heads.pt", weights_only=True))
    for task in METHODS:
        adapted.activate(task)
        images, labels = examples(task, seed=100)
        print(f"{task}: {int((heads[task](adapted(images)).argmax(1) == labels).sum())} of 16 right")
    before, merged = adapted(images, task="colour"), adapted.merge("colour")(images)
    print(f"colour, merged: features move by {(merged - before).norm().item() / before.norm().item():.0e} of theirs")


use() if "use" in sys.argv else train()
