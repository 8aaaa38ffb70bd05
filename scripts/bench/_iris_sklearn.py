"""configs/iris_grid.yaml as plain scikit-learn: GridSearchCV with the same grid, folds and seeds. Prints JSON."""

from __future__ import annotations

import json

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, train_test_split

GRID = {"n_estimators": [10, 50, 100, 200], "max_depth": [None, 10, 20, 30], "min_samples_split": [2, 5, 10]}


def main() -> None:
    inputs, targets = load_iris(return_X_y=True)
    train, test, train_targets, test_targets = train_test_split(inputs, targets, test_size=0.3, random_state=42)
    search = GridSearchCV(RandomForestClassifier(random_state=42), GRID, cv=5, scoring="accuracy", n_jobs=-1)
    search.fit(train, train_targets)
    results = search.cv_results_
    scores = [[params, float(mean)] for params, mean in zip(results["params"], results["mean_test_score"], strict=True)]
    print(json.dumps({"scores": scores, "test": float(search.score(test, test_targets))}))


if __name__ == "__main__":
    main()
