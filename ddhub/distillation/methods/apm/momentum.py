"""SGD with momentum on images of which only a batch is in memory. The others wait in a store and move on.

One optimiser holds all images. Images outside the batch keep moving by their decaying momentum. Their moves are
computed when they enter a batch again, as one power of a 3x3 matrix.
`task.config` gives batch, lr_images, momentum, average (the decay of a moving average; 0: none), blend and project.
Shapes: M synthetic images, B of them in a batch, C H W image.
"""

import torch
from torch import Tensor

from ddhub.base import mapped_tensors, seeds
from ddhub.distillation.task import Task
from ddhub.training.image_store import Store, Values
from ddhub.training.loop import State


def initial(task: Task, rows: Tensor) -> Values:
    """The initial content of some rows of the store."""
    images = task.initial_images(rows, task.config.init)
    values = {"images": images, "velocity": torch.zeros_like(images)}
    return {**values, "average": images.clone()} if task.config.average else values


def drawn(total: int, task: Task, step: int) -> Tensor:
    """The rows (B,) of a refresh, sorted."""
    batch = task.config.batch
    if batch is None or batch >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=seeds.generator(task.recipe.seed, "batch", step))[:batch].sort().values


def take(state: State, store: Store, task: Task, step: int) -> None:
    """Draw a batch. Return the old one to the store, and take the new one out with its missed moves."""
    rows = drawn(len(state["moved"]), task, step)
    if torch.equal(rows, state["rows"]):
        return
    put_back(state, store, step)
    values = coasted(store.read(rows), step - state["moved"][rows], state["lr"], task)
    state.update(rows=rows, batch={name: value.to(task.decisions.device) for name, value in values.items()})


def put_back(state: State, store: Store, step: int) -> None:
    """Write the batch to the store as of `step` updates. The batch stays in use."""
    store.write(state["rows"], state["batch"])
    state["moved"][state["rows"]] = step


def settle(state: State, store: Store, task: Task, step: int) -> None:
    """Apply all missed moves of the store up to `step` updates."""
    put_back(state, store, step)
    for rows in store.parts():
        waiting = rows[state["moved"][rows] < step]
        if len(waiting):
            store.write(waiting, coasted(store.read(waiting), step - state["moved"][waiting], state["lr"], task))
    state["moved"].fill_(step)


def coasted(values: Values, updates: Tensor, lr: float, task: Task) -> Values:
    """Rows (B, C, H, W) after `updates` (B,) without a gradient: velocity decays, images and average move.

    Each such update maps (average, images, velocity) of a row by one 3x3 matrix. Many updates are a power of it.
    """
    config = task.config
    if not updates.any():
        return values
    beta, step = config.average, -lr * config.momentum
    once = torch.tensor(
        [[beta, 1 - beta, (1 - beta) * step], [0, 1, step], [0, 0, config.momentum]], dtype=torch.double
    )
    powers = {int(k): torch.linalg.matrix_power(once, int(k)) for k in updates.unique()}
    power = torch.stack([powers[int(k)] for k in updates]).float().view(-1, 3, 3, 1, 1, 1)
    images, velocity = values["images"], values["velocity"]
    moved = {"images": images + power[:, 1, 2] * velocity, "velocity": power[:, 2, 2] * velocity}
    if config.project:
        moved["images"] = task.preprocess.project(moved["images"])
    if "average" in values:
        moved["average"] = power[:, 0, 0] * values["average"] + power[:, 0, 1] * images + power[:, 0, 2] * velocity
    return moved


def update(batch: Values, gradient: Tensor, lr: float, task: Task) -> None:
    """SGD with momentum on the batch's columns (B, C, H, W)."""
    config = task.config
    batch["velocity"] = config.momentum * batch["velocity"] + gradient
    batch["images"] = batch["images"] - lr * batch["velocity"]
    if config.project:
        batch["images"] = task.preprocess.project(batch["images"])
    if config.average:
        batch["average"] = batch["average"].lerp(batch["images"], 1 - config.average)


def candidate(store: Store, task: Task) -> Tensor:
    """The images to ship now, before they are blended: their moving average, or themselves if there is none."""
    return store.column("average" if task.config.average else "images")


def blended(images: Tensor, store: Store, task: Task) -> Tensor:
    """The point `blend` of the way from the start images to these (M, C, H, W), in a file of the store's folder."""
    config = task.config
    if config.blend == 1:
        return images
    found = mapped_tensors.tensor(store.folder / "blended.f32", images.shape)
    for rows in store.parts():
        found[rows] = task.initial_images(rows, config.init).lerp(images[rows].cpu(), config.blend)
    return found


def go_back(state: State, store: Store) -> None:
    """Replace all images by the best ones, without velocity."""
    best, device = state["best"], state["batch"]["images"].device
    for rows in store.parts():
        values = {"images": best[rows], "average": best[rows], "velocity": torch.zeros_like(best[rows])}
        store.write(rows, {name: values[name] for name in state["batch"]})
    state["batch"] = {name: value.to(device) for name, value in store.read(state["rows"]).items()}
