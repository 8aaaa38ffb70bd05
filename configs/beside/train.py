"""A training script: it takes its parameters as arguments, and prints its metrics as JSON.

Any script does. This one fits a linear model on scikit-learn's handwritten digits, twenty times over the data.
"""

import argparse
import json
import os

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--penalty", type=float, default=1e-4)
parser.add_argument("--epochs", type=int, default=20)
given = parser.parse_args()

inputs, labels = load_digits(return_X_y=True)
train_x, valid_x, train_y, valid_y = train_test_split(inputs / 16, labels, test_size=0.3, random_state=0)
seed = int(os.environ.get("MODELOPT_SEED", "0")) % 2**32  # a trial of a search has a seed of its own
model = SGDClassifier(learning_rate="constant", eta0=given.lr, alpha=given.penalty, random_state=seed)
for epoch in range(1, given.epochs + 1):
    model.partial_fit(train_x, train_y, classes=range(10))
    print(json.dumps({"step": epoch, "accuracy": model.score(valid_x, valid_y)}), flush=True)
