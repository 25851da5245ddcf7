"""Scaling of features and targets, fitted on the training set only.

One scikit-learn scaler for the features and one for the targets, which scales each horizon separately. They are saved
in the bundle of their model, as data and not as pickle, and are never shared between models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from forecastlib.config import ModelConfig
from forecastlib.errors import IncompatibleModelError, NotFittedError
from forecastlib.samples.splits import Split
from forecastlib.samples.windows import Floats, Windows

_KINDS = {"minmax": MinMaxScaler, "standard": StandardScaler, "robust": RobustScaler}
# The fitted attributes of each scaler that transforming and inverting need.
_LEARNED = {
    "minmax": ("min_", "scale_", "data_min_", "data_max_", "data_range_"),
    "standard": ("mean_", "scale_", "var_"),
    "robust": ("center_", "scale_"),
}


CHUNK_ROWS = 512
"""Feature rows per chunk: scikit-learn computes in copies of float64."""

ALIGNMENT = 64
"""Alignment of the scaled matrix in bytes: TensorFlow shares the memory of aligned arrays instead of copying it."""


class Scaling:
    """The scalers of one model.

    Parameters
    ----------
    config
        The kinds of scalers.

    Attributes
    ----------
    fitted_from, fitted_to : str or None
        First and last date (ISO) of the feature rows the scalers were fitted on, for the audit.
    labels_to : str or None
        Date (ISO) on which the last of the labels they were fitted on was known.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.kinds = {"features": config.feature_scaler, "targets": config.target_scaler}
        self._scalers = {role: _KINDS[kind]() for role, kind in self.kinds.items()}
        self.fitted_from: str | None = None
        self.fitted_to: str | None = None
        self.labels_to: str | None = None

    def fit(self, windows: Windows, train: npt.NDArray[np.int64]) -> Self:
        """Fit on the feature rows that the training windows see, and on their targets.

        Parameters
        ----------
        windows
            All windows.
        train
            Positions of the training set, as :class:`forecastlib.samples.splits.Split` has them.

        Returns
        -------
        Scaling
            Itself.
        """
        chosen = windows.take(train)
        rows = windows.covered_rows(train)
        self._scalers = {role: _KINDS[kind]() for role, kind in self.kinds.items()}
        if self.kinds["features"] == "robust":  # its quantiles need all rows at once
            self._scalers["features"].fit(windows.matrix[rows])
        else:
            for start in range(0, len(rows), CHUNK_ROWS):
                self._scalers["features"].partial_fit(windows.matrix[rows[start : start + CHUNK_ROWS]])
        self._scalers["targets"].fit(chosen.y)
        self.fitted_from = f"{windows.dates[rows].min():%Y-%m-%d}"
        self.fitted_to = f"{windows.dates[rows].max():%Y-%m-%d}"
        self.labels_to = f"{chosen.label_dates.max():%Y-%m-%d}"
        return self

    @property
    def n_features(self) -> int:
        """Number of features the scalers were fitted on."""
        return int(self._fitted("features").n_features_in_)

    def features(self, matrix: Floats) -> npt.NDArray[np.float32]:
        """Scale feature rows, shape (rows, features); float32, as the network takes them."""
        scaler = self._fitted("features")
        buffer = np.empty(matrix.size + ALIGNMENT // 4, dtype=np.float32)
        skip = -buffer.ctypes.data % ALIGNMENT // 4
        scaled = buffer[skip : skip + matrix.size].reshape(matrix.shape)
        for start in range(0, len(matrix), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            scaled[part] = scaler.transform(matrix[part])
        return scaled

    def targets(self, y: Floats) -> npt.NDArray[np.float32]:
        """Scale targets, shape (n, horizons); NaN stays NaN."""
        return np.asarray(self._fitted("targets").transform(y), dtype=np.float32)

    def unscaled_targets(self, scaled: npt.ArrayLike) -> Floats:
        """Invert the scaling of targets, shape (n, horizons), in float64."""
        return np.asarray(self._fitted("targets").inverse_transform(np.asarray(scaled, dtype=np.float64)))

    def _fitted(self, role: str) -> Any:
        if self.fitted_to is None:
            raise NotFittedError(f"the scaler of the {role} is not fitted yet; call fit(windows, train) first")
        return self._scalers[role]

    def apply(self, windows: Windows) -> Windows:
        """Return the windows with their scaled matrix and these scalers, which networks need."""
        return replace(windows, scaled=self.features(windows.matrix), scaler=self)

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted parameters as JSON types; :meth:`from_dict` restores them exactly."""
        return {
            "fitted_from": self.fitted_from,
            "fitted_to": self.fitted_to,
            "labels_to": self.labels_to,
            "scalers": {
                role: {
                    "kind": kind,
                    "learned": {name: getattr(self._fitted(role), name).tolist() for name in _LEARNED[kind]},
                }
                for role, kind in self.kinds.items()
            },
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any], config: ModelConfig) -> Self:
        """Rebuild fitted scalers.

        Raises
        ------
        IncompatibleModelError
            If their kind differs from the configuration, or they are incomplete.
        """
        scaling = cls(config)
        try:
            for role, kind in scaling.kinds.items():
                entry = saved["scalers"][role]
                if entry["kind"] != kind:
                    raise IncompatibleModelError(
                        f"expected a {kind} scaler of the {role}; the bundle has {entry['kind']}"
                    )
                scaler = scaling._scalers[role]
                learned = {name: np.asarray(entry["learned"][name], dtype=np.float64) for name in _LEARNED[kind]}
                if len({values.shape for values in learned.values()}) != 1:
                    raise ValueError(f"{role}: the fitted attributes differ in length")
                for name, values in learned.items():
                    setattr(scaler, name, values)
                scaler.n_features_in_ = len(scaler.scale_)
            scaling.fitted_from, scaling.fitted_to = saved["fitted_from"], saved["fitted_to"]
            scaling.labels_to = saved["labels_to"]
        except (KeyError, TypeError, ValueError) as error:
            raise IncompatibleModelError(
                f"the scalers of the bundle cannot be read: {error!r}; train it again"
            ) from error
        return scaling


def fit_scaling(windows: Windows, split: Split, config: ModelConfig) -> Scaling:
    """Fit the scalers of features and targets on the training set of a split."""
    return Scaling(config).fit(windows, split.train)
