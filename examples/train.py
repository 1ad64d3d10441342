"""Train a ConvNet on a distilled set in plain PyTorch, and test it: python train.py SET [TEST]; Hub ids or folders."""

import json
import os
import sys

import torch
from datasets import get_dataset_split_names, load_dataset
from huggingface_hub import hf_hub_download
from torch import nn

path = os.path.join(sys.argv[1], "ddhub.json")
if not os.path.exists(path) and (os.path.exists(sys.argv[1]) or sys.argv[1].count("/") != 1):
    sys.exit(f"{sys.argv[1]}: is no folder with a ddhub.json, nor OWNER/NAME of a set")
with open(path if os.path.exists(path) else hf_hub_download(sys.argv[1], "ddhub.json", repo_type="dataset")) as file:
    manifest = json.load(file)
mean, std = (torch.tensor(manifest["preprocess"][name]).view(1, -1, 1, 1) for name in ("mean", "std"))
rows = load_dataset(sys.argv[1], split="train").with_format("torch")
plain = manifest["labels"]["form"] == "logits" and not manifest["preprocess"]["zca"]
if not plain or {"pixels", "soft_index"} & {*rows.features}:
    sys.exit(f"{sys.argv[1]}: is whitened, or has network inputs, top-k labels or no logits; use ddhub.load")
inputs, soft_labels = (rows["image"][:] / 255 - mean) / std, rows["soft_label"][:]
inputs = nn.functional.interpolate(inputs, manifest["source"]["resolution"], mode="bilinear")  # as some sets need
layers = [nn.LazyConv2d(64, 3, padding=1), nn.GroupNorm(64, 64), nn.ReLU(), nn.AvgPool2d(2)]
layers += [nn.Conv2d(64, 64, 3, padding=1), nn.GroupNorm(64, 64), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()]
net = nn.Sequential(*layers, nn.LazyLinear(soft_labels.shape[1]))
net(inputs[:1])
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
for _ in range(300):
    for batch in torch.randperm(len(inputs)).split(256):
        moved = inputs[batch].roll(torch.randint(-1, 2, (2,)).tolist(), (2, 3))
        loss = (net(moved) - soft_labels[batch]).abs().mean()  # the teachers' logits are the target
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
image, label = "image", "label"
if len(sys.argv) > 2:  # real images of the same size
    image, label, split = (manifest["source"][name] for name in ("image", "label", "test"))
    if split not in get_dataset_split_names(sys.argv[2]):
        sys.exit(f"{sys.argv[2]}: has no split '{split}'; use ddhub evaluate {sys.argv[1]}")
    rows = load_dataset(sys.argv[2], split=split).with_format("torch")
    names = getattr(rows.features[label], "names", [str(number) for number in range(len(manifest["classes"]))])
    if names != manifest["classes"] or "int" not in rows.features[label].dtype:
        sys.exit(f"{sys.argv[2]}: has other classes or another order of them; use ddhub evaluate {sys.argv[1]}")
    real = rows[image][:]
    if not torch.is_tensor(real) or real.dtype != torch.uint8 or real.shape[1:] != inputs.shape[1:]:
        sys.exit(f"{sys.argv[2]}: has images of another size or kind than the set; use ddhub evaluate {sys.argv[1]}")
    inputs = (real / 255 - mean) / std
with torch.no_grad():
    correct = (net(inputs).argmax(1) == rows[label][:]).float().mean()
print(f"accuracy on {'the test images' if len(sys.argv) > 2 else 'the set itself'}: {100 * correct:.1f}%")
