"""Linear probes: what a linear classifier can read from features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

#: strengths of regularisation to choose from
ALPHAS = np.logspace(0, 4, 5)


def hits(
    train: Float[np.ndarray, "train columns"],
    true: Bool[np.ndarray, "train values"],
    test: Float[np.ndarray, "test columns"],
    true_of_test: Bool[np.ndarray, "test values"],
) -> tuple[Bool[np.ndarray, " test"], Bool[np.ndarray, " test"]]:
    """Of each test example whether the value that a classifier predicts is among those that are true of it, and whether
    the most frequent value of the training examples is.

    Ridge regression on standardised features, one target per value (Alain and Bengio, Understanding intermediate layers
    using linear classifier probes, 2016, with a softmax); its strength is chosen by leaving one training example out.
    Rows of nan, of examples without features, are the mean.
    """
    scaler = StandardScaler().fit(train)
    rows, rows_of_test = (np.nan_to_num(scaler.transform(side)) for side in (train, test))
    targets = true.astype(rows.dtype)
    predicted = RidgeCV(ALPHAS).fit(rows, targets).predict(rows_of_test).reshape(len(test), -1)
    return (
        true_of_test[np.arange(len(test)), predicted.argmax(axis=1)],
        true_of_test[:, true.sum(axis=0).argmax()],
    )
