"""Adversarial prediction matching as a plain loop, with the habits of the method's public code.

The loop is written from the description of the method. A new student trains in eager float32 on a DataLoader. Its
augmentation draws some magnitudes image by image in Python. Loss and hits are read at every step. Every snapshot of an
update calls the teacher again, forward and backward. Parameters require gradients, so unused gradients of the weights
of teacher and snapshots are computed. The images are one leaf tensor with an SGD optimiser. The loop trains ddhub's
ConvNet, which has fewer operations than the usual one (no biases before the norms).
`distill` runs it on a task of ddhub, with the settings of its recipe.
Shapes: M synthetic images, C H W image, K classes.
"""

import copy
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from distilling import Paced
from evaluation_speed import plain_dsa
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ddhub.distillation.task import Task
from ddhub.training import architectures
from ddhub.training.loop import State
from ddhub.training.network import Weights


class PlainLoop:
    """The images with their optimiser, teachers, and the newest student's snapshots.

    Args:
        images: (M, C, H, W) network inputs on the device.
        labels: (M,) classes.
        snapshots: of each student.
        chunk: images of one backward pass in an update.
        lr: rate of the images.
        teachers: their weights, of which each refresh draws one. None: an untrained one.
        first: seed of the first student. Later ones follow.
    """

    def __init__(
        self,
        arch: str,
        classes: int,
        images: Tensor,
        labels: Tensor,
        snapshots: int,
        chunk: int | None = None,
        lr: float = 1.0,
        teachers: Sequence[Weights] = (),
        first: int = 1,
    ) -> None:
        self.arch, self.classes, self.labels, self.kept = arch, classes, labels, snapshots
        self.chunk = chunk or len(images)
        self.images = images.clone().requires_grad_()
        self.optimizer = torch.optim.SGD([self.images], lr=lr, momentum=0.5)
        self.teachers = [self._net(0) for _ in range(max(1, len(teachers)))]
        for net, weights in zip(self.teachers, teachers, strict=False):
            net.load_state_dict(weights)
        self.teacher = self.teachers[0]
        self.snapshots: list[nn.Module] = []
        self.students = first

    def _net(self, seed: int) -> nn.Module:
        net = architectures.build(self.arch, self.classes, self.images.shape[1], self.images.shape[-1], seed)
        return net.to(self.images.device).train()

    def refresh(self, epochs: int, lr: float = 0.02, batch: int = 256) -> float:
        """Train a new student on the teacher's logits. Return the loss of the last epoch."""
        self.teacher = random.choice(self.teachers)
        with torch.no_grad():
            targets = self.teacher(self.images)
        loader = DataLoader(TensorDataset(self.images.detach().clone(), targets, self.labels), batch, shuffle=True)
        student = self._net(self.students)
        self.students += 1
        optimizer = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
        wanted = {max(1, round(epochs * (k + 1) / self.kept)) for k in range(self.kept)}
        self.snapshots, loss = [], 0.0
        for epoch in range(epochs):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1.0 if epoch < (epochs + 1) // 2 else 0.1)
            loss, _ = self._epoch(student, optimizer, loader)
            if epoch + 1 in wanted:
                self.snapshots.append(copy.deepcopy(student))
        return loss

    def _epoch(self, student: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> tuple[float, float]:
        total, hits, seen = 0.0, 0.0, 0
        for inputs, targets, labels in loader:
            with torch.device(inputs.device):
                augmented = plain_dsa(inputs)
            output = student(augmented)
            loss = (output - targets).abs().mean()
            hits += (output.argmax(1) == labels).float().sum().item()
            total += loss.item() * len(labels)
            seen += len(labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return total / seen, hits / seen

    def update(self, alpha: float = 0.1) -> float:
        """Move the images once. Return the loss."""
        self.optimizer.zero_grad()
        total = 0.0
        for rows in torch.arange(len(self.images)).split(self.chunk):
            for student in self.snapshots:
                part, labels = self.images[rows], self.labels[rows]
                teacher = self.teacher(part)
                gap = (student(part) - teacher).abs().mean()
                # The cross-entropy counts once, for any number of snapshots.
                loss = alpha / len(self.snapshots) * F.cross_entropy(teacher, labels) - gap
                (loss * len(rows) / len(self.images)).backward()
                total += loss.item()
        self.optimizer.step()
        return total

    def slow_down(self, factor: float) -> None:
        """Multiply the rate of the images."""
        for group in self.optimizer.param_groups:
            group["lr"] *= factor


def distill(task: Task, run: Paced) -> None:
    """Run the plain loop with a task's recipe. `state["best"]` is what would be shipped after each update.

    It takes the schedule, the rates, and the moving average of images from the recipe. It knows one family of students,
    plain images without views, and a drawn teacher.
    """
    config, teachers, seed = task.config, task.need_teachers(), task.recipe.seed
    spec = config.student
    images, labels = task.start(config.init)
    random.seed(seed)
    torch.manual_seed(seed)
    loop = PlainLoop(
        spec.arch,
        teachers.network.classes,
        images,
        labels,
        config.snapshots,
        lr=config.lr_images,
        teachers=teachers.weights,
        first=1000 * seed + 1,
    )
    state: State = {"best": images.clone()}
    for step in run.steps(config.iterations, state):
        if step % config.refresh_every == 0:
            loop.refresh(spec.epochs, spec.lr, spec.batch)
        loop.update(config.alpha)
        state["best"].lerp_(loop.images.detach(), 1 - config.average)
        if step + 1 == (config.iterations + 1) // 2:
            loop.slow_down(config.decay)
