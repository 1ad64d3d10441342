"""The number of images at once within a recipe's memory budget: measured here, or forecast from fits."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ddhub.base import plugins
from ddhub.base.units import memory_bytes
from ddhub.distillation.plan import forecast
from ddhub.distillation.plan.costs import Fit
from ddhub.distillation.plan.work import PREDICTED, Outline, Work, scoring
from ddhub.distillation.recipes import method_of
from ddhub.training import fit, memory
from ddhub.training.device import Decisions
from ddhub.training.network import Network
from ddhub.training.protocol import Protocol


def measured(outline: Outline) -> Decisions:
    """Decisions with the largest micro-batches and chunks within the recipe's memory budget, found by steps on noise.

    Raises:
        UserError: if one image, or an indivisible step of the method, exceeds the budget.
    """
    recipe, device, method = outline.recipe, outline.decisions.device, method_of(outline.recipe)
    assert recipe.memory is not None
    budget = memory_bytes(recipe.memory)
    archs = sorted(method.architectures_of(outline.config) | set(recipe.teachers.archs))
    networks, chunked = [outline.network(arch) for arch in archs], cut_into_chunks(outline)
    works: dict[str, Callable[[int], object]] = {
        "micro_batch": partial(_train, networks),
        "chunk": lambda images: [work.run(min(images, work.batch), 1) for work in chunked],
    }
    with plugins.blame_plugin(method.code):
        for work in _uncut(outline):
            memory.check(budget, device, work.name, partial(work.run, work.at_once, 1))
        found: dict[str, Any] = dict(memory.fitted(budget, device, works, _most(outline, chunked)))
    return replace(outline.decisions, **found)


def foretold(outline: Outline) -> Outline:
    """The outline with as many images at once as the memory budget allows, by forecast."""
    if outline.recipe.memory is None:
        return outline
    budget, chosen, chunked = memory_bytes(outline.recipe.memory), dict[str, Any](), cut_into_chunks(outline)
    works = [work for phase in forecast.phases(outline).values() for work in (phase.works if phase else [])]
    cut = {"micro_batch": [work for work in works if work.cut == "micro_batch"], "chunk": chunked}
    for name, limit in _most(outline, chunked).items():
        fits = [forecast.stored_or_rough(work, outline.decisions) for work in cut[name]]
        chosen[name] = memory.foretold(budget, name, limit, partial(_largest, fits))
    return replace(outline, decisions=replace(outline.decisions, **chosen))


def cut_into_chunks(outline: Outline) -> list[Work]:
    """The works that the decision `chunk` divides: those of the method, or else scores of real images."""
    own = [work for work in _of_method(outline) if work.cut == "chunk"]
    return own or [scoring(outline, "scores", outline.recipe.teachers.home, outline.held_out, 1, pixels=True)]


def _uncut(outline: Outline) -> list[Work]:
    """The works of the method that no decision divides."""
    return [work for work in _of_method(outline) if work.cut is None and work.calls]


def _of_method(outline: Outline) -> list[Work]:
    """The works of the method; none if it declares none."""
    phase = forecast.of_method(outline)
    return phase.works if phase else []


def _most(outline: Outline, chunked: Sequence[Work]) -> dict[str, int]:
    """The largest useful number of images at once, by decision: a batch."""
    recipe = outline.recipe
    chunk = min(PREDICTED, max(work.batch for work in chunked))
    return {"micro_batch": max(recipe.teachers.batch, recipe.evaluate.batch), "chunk": chunk}


def _largest(fits: Sequence[Fit], images: int) -> float:
    return max((fit.bytes(images) for fit in fits), default=0)


def _train(networks: Sequence[Network], images: int) -> None:
    """Train for two steps on so many images of noise."""
    for network in networks:
        noise = torch.zeros(images, network.channels, network.side, network.side)
        labels = torch.zeros(images, dtype=torch.int64)
        protocol = Protocol(loss="ce", augment="none", lr=0.01, epochs=2, batch=max(2, images), min_steps=0)
        fit.fit(network, fit.Examples(noise, labels), protocol, seed=0)
