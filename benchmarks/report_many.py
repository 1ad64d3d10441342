"""The CPU time of `ddhub report --html` on many sets, and the size of its page.

    python benchmarks/report_many.py 50

Charts are most of the work. Only the first 8 sets have charts of their own (html_page.CHARTED). With a second argument
`all`, every set has them, as before that limit.

The rows are artificial: 4 architectures, 2 protocols, and 5 seeds of distilled, random and full data, for every set.
"""

import sys
import time

import numpy as np

from ddhub.evaluation.rows import Row
from ddhub.reports import compare, html_page

ARCHS = ("convnet3", "resnet18", "vgg11", "vit_tiny")
PROTOCOLS = ("native", "plain")
SEEDS = 5


def rows(number: int) -> list[Row]:
    """The rows of one set."""
    draw = np.random.default_rng(number)
    cells = [(arch, p, data) for arch in ARCHS for p in PROTOCOLS for data in ("distilled", "random")]
    cells += [(arch, "full", "full") for arch in ARCHS]
    told = {"test": "sha256:0", "test_set": "digits test", "hardware": "x", "settings": {"lr": 0.01, "epochs": 100}}
    found = []
    for arch, protocol, data in cells:
        for seed in range(SEEDS):
            top1 = float({"distilled": 0.6, "random": 0.4, "full": 0.9}[data] + draw.normal(0, 0.02))
            row: dict[str, object] = {
                "arch": arch,
                "protocol": protocol,
                "data": data,
                "seed": seed,
                "top1": top1,
                "seconds": 1.0 + seed,
            }
            found.append(Row.model_validate({**told, **row, "train_images": 10 * (1 + number % 3)}))
    return found


def main(count: int, every: bool = False) -> None:
    """Time the document and the page of so many sets, with charts of the first ones or of all."""
    if every:
        html_page.CHARTED = count
    sets = [(f"set{number:02d}", rows(number)) for number in range(count)]
    begun = time.process_time()
    document = compare.build(sets)
    built = time.process_time()
    page = html_page.render(document)
    ended = time.process_time()
    print(f"{count} sets: document {built - begun:.1f} s, page {ended - built:.1f} s, {len(page) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, "all" in sys.argv)
