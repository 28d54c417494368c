"""Train a small net on the digits; stop it at any time, it goes on from its checkpoint."""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch
from green_jobs import progress
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100)
epochs = parser.parse_args().epochs
checkpoint = Path(os.environ.get("GREEN_CHECKPOINT_DIR", "."), "checkpoint.safetensors")
output = Path(os.environ.get("GREEN_OUTPUT_DIR", "."), "model.safetensors")

stop_signals = []
signal.signal(signal.SIGTERM, lambda number, _frame: stop_signals.append(number))

digits = load_digits()
images = torch.tensor(digits.data / 16, dtype=torch.float32)
labels = torch.tensor(digits.target)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

first = 0
if checkpoint.exists():
    tensors = load_file(checkpoint)
    first = int(tensors.pop("epoch"))
    model.load_state_dict(tensors)

for epoch in range(first, epochs):
    torch.manual_seed(epoch)  # the same order of images, interrupted or not
    for batch in torch.randperm(len(images)).split(32):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    progress.report(100 * (epoch + 1) / epochs, phase="training", loss=loss.item())
    if stop_signals or epoch % 20 == 19:
        half_written = checkpoint.with_suffix(".tmp")
        save_file({**model.state_dict(), "epoch": torch.tensor(epoch + 1)}, half_written)
        half_written.replace(checkpoint)  # the old one or the new one, never half of one
        progress.report(saved=True)
    if stop_signals:
        sys.exit(75)  # interrupted: start me again

save_file(model.state_dict(), output)
accuracy = (model(images).argmax(dim=1) == labels).double().mean().item()
progress.report(100, accuracy=accuracy)
progress.done()
print(f"accuracy on the training images: {accuracy:.3f}")
