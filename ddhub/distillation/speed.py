"""Choice of the fastest way of training on a GPU, by a few steps on noise, once per run."""

from dataclasses import replace
from functools import partial

import torch

from ddhub.base import seeds
from ddhub.base.log import say
from ddhub.base.resources import Resources
from ddhub.distillation.plan.work import Outline
from ddhub.training import fit, step_time
from ddhub.training import network as networks
from ddhub.training.device import Decisions, has_compiler
from ddhub.training.protocol import Protocol

# FLOPs of teachers above which compiling, tens of seconds, pays on a GPU. Not measured yet.
COMPILE_FROM = 1e16


def chosen(outline: Outline, asked: Resources, flops: float) -> Decisions:
    """The outline's decisions with the fastest choice of graph, memory format, compiler, and networks at once.

    Args:
        flops: the FLOPs of all teachers.
    """
    base, students = outline.decisions, getattr(outline.config, "students", 1)
    ways = [base, replace(base, channels_last=False), replace(base, graph=False)]
    if asked.compile is None and flops >= COMPILE_FROM and has_compiler():
        ways += [replace(way, compile=True) for way in ways[:2]]
    times = step_time.measured(ways, partial(_seconds, outline))
    best = step_time.fastest(times) if times else base
    if students > 1 and asked.together is None:
        several = step_time.measured([best, replace(best, together=students)], partial(_seconds, outline))
        times, best = {**times, **several}, step_time.fastest(several) if several else best
    told = ", ".join(f"{way.title} {1000 * seconds:.2f} ms" for way, seconds in times.items())
    say(f"a step on {best.device}: {told}; chosen: {best.title}")
    return best


def _seconds(outline: Outline, way: Decisions) -> float:
    """Seconds of one training step of the first teacher on noise."""
    spec, count = outline.recipe.teachers, way.together
    images = min(spec.batch, outline.training)
    shape = outline.shape
    network = networks.network(spec.home, shape.classes, shape.channels, shape.side, way)
    examples = fit.Examples(outline.noise(images), (torch.arange(images) % outline.shape.classes).to(way.device))
    asked = [seeds.derive(number, "trial") for number in range(count)]

    def train(steps: int) -> None:
        protocol = Protocol(
            loss="ce", augment=outline.recipe.augment, lr=1e-4, epochs=steps, batch=spec.batch, min_steps=0
        )
        fit.fit_many(network, [examples] * count, protocol, asked)

    return step_time.step_seconds(train, way.device) / count
