"""The baselines by name: what each is. How their images are chosen is in baselines.py; `--help` reads this alone."""

BASELINES = {
    "random": "random real images, as many per class, labelled as the set is, under the same protocol",
    "random_bytes": "as many random real images with hard labels as fit into the bytes of the whole set",
    "herding": "real images whose mean feature stays nearest to the class's (Welling, ICML 2009)",
    "kcenter": "real images that leave none far away: greedy k-center (Sener and Savarese, arXiv:1708.00489)",
    "kmeans": "the real images nearest to k cluster centres of each class",
    "full": "the whole train split with hard labels, trained as the paper trains its teachers",
}
