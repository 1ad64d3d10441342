"""The baselines by name: real images that are compared with a set.

A new one is an entry here and a function in ddhub/data/selection.py. ddhub/evaluation/baseline_images.py calls it.
"""

BASELINES = {
    "random": "random real images, equally many per class, with the set's kind of labels and its protocol",
    "random_bytes": "as many random real images with hard labels as fit into the bytes of the whole set",
    "herding": "real images whose mean feature stays nearest to the class's (Welling, ICML 2009)",
    "kcenter": "real images that leave no other far away: greedy k-center (Sener and Savarese, arXiv:1708.00489)",
    "kmeans": "the real images nearest to k cluster centres of each class",
    "el2n": "the real images with the largest error of the shipped teachers: EL2N (Paul et al., arXiv:2107.07075)",
    "ccs": "real images spread over all EL2N scores except the highest: CCS (Zheng et al., arXiv:2210.15809)",
    "easy": "the tenth of ten times as many random real images with the least error of the shipped teachers (EL2N)",
    "equal_compute": "real images with hard labels, with as many steps and images per step as the set's training",
    "full": "the whole train split with hard labels, trained as the paper trains its teachers",
}
