"""When a loop ends, and with which set: the best by validation accuracy.

`task.config.stopping` gives epochs and networks of a score, patience and decays; `task.config.decay` the factor.
"""

from torch import Tensor

from ddhub.distillation.momentum import candidate, go_back, settle
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training.image_store import Store
from ddhub.training.loop import State


def choose(state: State, store: Store, labels: Tensor, task: Task, step: int) -> None:
    """Score the set on validation data; keep the best, decay from it on a plateau, stop after the last decay.

    The best set is kept in memory: choosing is for sets that one can afford to score.
    """
    config, stopping = task.config, task.config.stopping
    settle(state, store, task, step)
    images = candidate(store, task)
    synthetic = SyntheticSet(images, labels, task.soft_labels(images))
    scores = [task.validate(synthetic, seed=k, epochs=stopping.epochs) for k in range(stopping.networks)]
    top1 = sum(scores) / len(scores)
    if top1 > state["best_top1"]:
        state.update(best=images.clone(), best_top1=top1, bad=0)
        return
    state["bad"] += 1
    if state["bad"] >= stopping.patience:
        go_back(state, store)
        state.update(lr=state["lr"] * config.decay, decays=state["decays"] + 1, bad=0)
        state["stop"] = state["decays"] > stopping.decays
