"""SGD with momentum on images of which a batch alone is in memory; the others wait in a store, and move all the same.

One optimiser holds all images: those outside the batch go on moving on their decaying momentum. Their moves are made
up for, as one power of a 3x3 matrix, when they come into a batch again.
`task.config` gives batch, lr_images, momentum, average (the decay of a moving average; 0: none) and project.
Shapes: M synthetic images, B of them in a batch, C H W image.
"""

import torch
from torch import Tensor

from ddhub.base import seeds
from ddhub.distillation.task import Task
from ddhub.training.image_store import Store, Values
from ddhub.training.loop import State


def initial(task: Task, rows: Tensor) -> Values:
    """What the store holds of some rows at first."""
    images = task.initial_images(rows, task.config.init)
    values = {"images": images, "velocity": torch.zeros_like(images)}
    return {**values, "average": images.clone()} if task.config.average else values


def drawn(total: int, task: Task, step: int) -> Tensor:
    """The rows (B,) of a refresh, in order."""
    batch = task.config.batch
    if batch is None or batch >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=seeds.generator(task.recipe.seed, "batch", step))[:batch].sort().values


def take(state: State, store: Store, task: Task, step: int) -> None:
    """Draw a batch; put the old one back into the store, take the new one out as momentum has moved it meanwhile."""
    rows = drawn(len(state["moved"]), task, step)
    if torch.equal(rows, state["rows"]):
        return
    put_back(state, store, step)
    values = coasted(store.read(rows), step - state["moved"][rows], state["lr"], task)
    state.update(rows=rows, batch={name: value.to(task.decisions.device) for name, value in values.items()})


def put_back(state: State, store: Store, step: int) -> None:
    """Write the batch as it is after `step` updates; it is gone on with all the same."""
    store.write(state["rows"], state["batch"])
    state["moved"][state["rows"]] = step


def settle(state: State, store: Store, task: Task, step: int) -> None:
    """Bring all of the store to where `step` updates have carried it."""
    put_back(state, store, step)
    for rows in store.parts():
        waiting = rows[state["moved"][rows] < step]
        if len(waiting):
            store.write(waiting, coasted(store.read(waiting), step - state["moved"][waiting], state["lr"], task))
    state["moved"].fill_(step)


def coasted(values: Values, updates: Tensor, lr: float, task: Task) -> Values:
    """Rows (B, C, H, W) after `updates` (B,) more updates without a gradient: velocity decays, images and average move.

    (average, images, velocity) of a row change by one 3x3 matrix at every such update, so by a power of it at many.
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
    """The images as they would be shipped now: their moving average, or as they are where none is kept."""
    return store.column("average" if task.config.average else "images")


def go_back(state: State, store: Store) -> None:
    """Put the best images in the place of all, at rest."""
    best, device = state["best"], state["batch"]["images"].device
    for rows in store.parts():
        values = {"images": best[rows], "average": best[rows], "velocity": torch.zeros_like(best[rows])}
        store.write(rows, {name: values[name] for name in state["batch"]})
    state["batch"] = {name: value.to(device) for name, value in store.read(state["rows"]).items()}
