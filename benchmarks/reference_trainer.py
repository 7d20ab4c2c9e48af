"""A training as tutorials on several GPUs have it, for benchmarks/speed.py to compare ours with.

    PYTHONPATH=src torchrun --nproc-per-node 2 benchmarks/reference_trainer.py FOLDER

FOLDER holds `train/IDENTITY/*.jpg` and `val/IDENTITY/*.jpg`. Images are decoded and augmented one
by one by torchvision's transforms, in worker processes that stay alive; DistributedSampler deals
them out, DistributedDataParallel averages gradients, rank 0 saves the network after each epoch. The
network is ours. Rank 0 prints the images a second of each epoch, validation and saving included.
"""

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from deepsort_reid.core.arch import ARCHS
from deepsort_reid.core.machine import cores
from deepsort_reid.model import network

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def main() -> None:
    """Train for some epochs, and say how fast each one was."""
    options = arguments()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    device = choose_device(ranks)
    torch.manual_seed(0)
    train, val = datasets(options.folder, options.size)
    train_loader, sampler = loader(train, options, device, training=True)
    val_loader, _ = loader(val, options, device, training=False)

    net = network.build(network.Design(options.arch), len(train.classes)).to(device)
    net = DistributedDataParallel(net, device_ids=[device] if device.type == "cuda" else None)
    optimizer = torch.optim.SGD(net.parameters(), options.lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    for epoch in range(options.epochs):
        started = time.perf_counter()
        sampler.set_epoch(epoch)
        train_epoch(net, train_loader, optimizer, device)
        schedule.step()
        right = validate(net, val_loader, device)
        if rank == 0:
            torch.save(net.module.state_dict(), options.out)
        dist.barrier()
        seconds = time.perf_counter() - started
        if rank == 0:
            print(f"epoch {epoch + 1}: accuracy {right / len(val):.4f}", flush=True)
            print(f"images/s {len(train) / seconds:.6f}", flush=True)
    dist.destroy_process_group()


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", default="resnet18", choices=ARCHS)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 32), help="height and width")
    parser.add_argument("--batch-size", type=int, default=16, help="of a process")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--workers", type=int, help="processes that load images, of each rank")
    parser.add_argument("--out", type=Path, default=Path("reference.pth"))
    return parser.parse_args()


def choose_device(ranks: int) -> torch.device:
    """This rank's GPU, or its share of the cores."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return torch.device("cuda", torch.cuda.current_device())
    torch.set_num_threads(max(1, cores() // ranks))
    return torch.device("cpu")


def datasets(folder: Path, size: tuple[int, int]) -> tuple[ImageFolder, ImageFolder]:
    """Train, augmented, and val, as it is."""
    ends = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augmented = [
        transforms.Resize(tuple(size)),
        transforms.RandomCrop(tuple(size), padding=2),
        transforms.RandomHorizontalFlip(),
        *ends,
    ]
    plain = [transforms.Resize(tuple(size)), *ends]
    return (
        ImageFolder(str(folder / "train"), transforms.Compose(augmented)),
        ImageFolder(str(folder / "val"), transforms.Compose(plain)),
    )


def loader(
    dataset: ImageFolder, options: argparse.Namespace, device: torch.device, *, training: bool
) -> tuple[DataLoader, DistributedSampler]:
    """This rank's share of a dataset, in batches that worker processes make."""
    sampler = DistributedSampler(dataset, shuffle=training)
    workers = options.workers
    if workers is None:
        workers = max(1, cores() // dist.get_world_size())
    batches = DataLoader(
        dataset,
        batch_size=options.batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    return batches, sampler


def train_epoch(
    net: nn.Module,
    batches: DataLoader,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """Take a step for each batch."""
    net.train()
    criterion = nn.CrossEntropyLoss()
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        loss = criterion(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def validate(net: nn.Module, batches: DataLoader, device: torch.device) -> int:
    """Count right answers over all ranks."""
    net.eval()
    right = torch.zeros(1, dtype=torch.int64, device=device)
    for images, labels in batches:
        right += (net(images.to(device)).argmax(1).cpu() == labels).sum().to(device)
    dist.all_reduce(right)
    return int(right)


if __name__ == "__main__":
    main()
