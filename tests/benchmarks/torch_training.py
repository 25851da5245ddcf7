"""Training for one epoch with PyTorch, of the extra `bench`: the same network, batch size and number of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.comparisons import Measured
from benchmarks.inputs import BATCH, FEATURES, matrix_and_targets, windows_of

UNITS, DROPOUT = 50, 0.2


class DropoutLSTM(nn.Module):  # type: ignore[misc] # torch may not be installed
    """An LSTM with a mask per gate on inputs and states, constant over time, as a loop over time."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(features, 4 * units) * 0.05)
        self.recurrent = nn.Parameter(torch.randn(units, 4 * units) * 0.05)
        self.bias = nn.Parameter(torch.zeros(4 * units))
        self.units = units

    def forward(self, inputs: Any) -> Any:
        """Return all outputs, (batch, steps, units)."""
        batch, steps, features = inputs.shape
        keep = 1.0 - DROPOUT
        kernels, recurrents, biases = self.kernel.chunk(4, 1), self.recurrent.chunk(4, 1), self.bias.chunk(4)
        input_masks = [torch.empty(batch, 1, features).bernoulli_(keep) / keep for _ in range(4)]
        state_masks = [torch.empty(batch, self.units).bernoulli_(keep) / keep for _ in range(4)]
        projected = [((inputs * input_masks[k]) @ kernels[k] + biases[k]).unbind(1) for k in range(4)]
        hidden, carry = torch.zeros(batch, self.units), torch.zeros(batch, self.units)
        outputs = []
        for t in range(steps):
            i, f, g, o = (projected[k][t] + (hidden * state_masks[k]) @ recurrents[k] for k in range(4))
            carry = torch.sigmoid(f) * carry + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(carry)
            outputs.append(hidden)
        return torch.stack(outputs, 1)


class Network(nn.Module):  # type: ignore[misc]
    """The default network, with dropout before the layers that have no recurrent dropout."""

    def __init__(self, recurrent_dropout: bool) -> None:
        super().__init__()
        self.recurrent_dropout = recurrent_dropout
        layer: Any = DropoutLSTM if recurrent_dropout else lambda n, units: nn.LSTM(n, units, batch_first=True)
        self.first, self.second = layer(FEATURES, UNITS), layer(UNITS, UNITS)
        self.norm_1, self.norm_2 = nn.BatchNorm1d(UNITS), nn.BatchNorm1d(UNITS)
        self.common = nn.Linear(UNITS, 25)
        branch = [nn.Sequential(nn.Linear(25, 16), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(16, 1)) for _ in range(3)]
        self.branches = nn.ModuleList(branch)

    def forward(self, inputs: Any) -> list[Any]:
        """Return a column per horizon."""
        hidden = self._run(self.first, inputs)
        hidden = self.norm_1(hidden.transpose(1, 2)).transpose(1, 2)
        hidden = self.norm_2(self._run(self.second, hidden)[:, -1])
        hidden = nn.functional.dropout(torch.relu(self.common(hidden)), DROPOUT)
        return [branch(hidden)[:, 0] for branch in self.branches]

    def _run(self, layer: Any, inputs: Any) -> Any:
        if self.recurrent_dropout:
            return layer(inputs)
        return layer(nn.functional.dropout(inputs, DROPOUT))[0]


def epoch(recurrent_dropout: bool) -> Measured:
    """Train with recurrent dropout, which ``nn.LSTM`` does not support, or with ``nn.LSTM``."""
    torch.manual_seed(0)
    network = Network(recurrent_dropout)
    matrix, targets = matrix_and_targets()
    windows, actual = torch.from_numpy(np.ascontiguousarray(windows_of(matrix))), torch.from_numpy(targets)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def train() -> None:
        order = torch.randperm(len(windows))
        for start in range(0, len(windows), BATCH):
            batch = order[start : start + BATCH]
            columns = zip(network(windows[batch]), actual[batch].T, (0.5, 0.3, 0.2), strict=True)
            loss = sum(weight * ((column - target) ** 2).mean() for column, target, weight in columns)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return train
