import numpy as np

from detcenter.audit import look_alikes


def test_the_likest_first_and_never_itself():
    features = np.array([[1, 0], [2, 0.1], [1, 1], [0, 3], [1, -0.2], [5, 0]], float)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.array([1, 1, 1, 1, 1, 2])
    assert look_alikes(features, labels, 0, 1, 3) == [1, 4, 2]
    assert look_alikes(features, labels, 0, 2, 3) == [5]
    assert look_alikes(features, labels, 0, 3, 3) == []
