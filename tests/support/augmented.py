"""Images after the moves that a strategy draws for them, in one call."""

from ddhub.training import augment


def augmented(images, strategy, generator, *, siamese=False):
    """A batch (B, C, H, W), moved as training moves it: drawn on the CPU, sent, and applied."""
    (moves,) = augment.sent([augment.drawn(strategy, len(images), generator, siamese=siamese)], images.device)
    return augment.moved(images, moves)
