"""What a section may look like: shown where one is missing."""

from __future__ import annotations

EXAMPLES = {
    "data": "data: {type: digits}",
    "model": "model: {type: mlp}",
    "training": "training: {epochs: 10}",
    "pruning": "pruning: {amount: 0.9}",
    "distillation": "distillation: {teacher: model.pt}",
    "tuning": "tuning: {objective: maximize validation.accuracy, space: {...}}",
    "command": "command: {argv: [python, train.py]}",
}
