"""The loss of distillation (Hinton, Vinyals, Dean 2015, arXiv:1503.02531)."""

from __future__ import annotations

import torch
from green_api.task import Distill
from torch import Tensor, nn
from torch.nn import functional

from green_jobs.learning.training import Loss


def distillation_loss(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, weight: float
) -> Tensor:
    """Soft-target loss and cross entropy, weighted; a scalar.

    ``weight * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - weight) * CE``. T^2
    keeps the gradients of the soft part at one scale whatever the temperature T.

    Args:
        student: logits (B, C).
        teacher: logits (B, C).
        targets: class indices (B,).
        temperature: T.
        weight: share of the soft-target loss.

    """
    soft = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = functional.cross_entropy(student, targets)
    return weight * temperature**2 * soft + (1 - weight) * hard


def loss_from(teacher: nn.Module, step: Distill) -> Loss:
    """The loss of a distill step with a teacher in evaluation mode."""

    def loss(inputs: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            soft = teacher(inputs)
        return distillation_loss(logits, soft, targets, step.temperature, step.soft_target_weight)

    return loss
