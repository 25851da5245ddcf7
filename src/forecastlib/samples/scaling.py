"""Scaling of features and targets, fitted on the training set alone.

One scikit-learn scaler for the features and one for the targets (which scales each horizon by itself). They belong to
their model: they are saved in its bundle, as data and not as pickle, and are never shared between models.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from forecastlib.config import ModelConfig
from forecastlib.errors import IncompatibleModelError, NotFittedError
from forecastlib.samples.windows import Floats, Windows

_KINDS = {"minmax": MinMaxScaler, "standard": StandardScaler, "robust": RobustScaler}
# What each scaler learns, enough to transform and to invert.
_LEARNT = {
    "minmax": ("min_", "scale_", "data_min_", "data_max_", "data_range_"),
    "standard": ("mean_", "scale_", "var_"),
    "robust": ("center_", "scale_"),
}


ROWS_AT_ONCE = 512
"""Feature rows that are worked on at once: scikit-learn computes in copies of float64."""

ALIGNMENT = 64
"""Bytes on a multiple of which scaled features begin: there TensorFlow shares their memory instead of copying it."""


class Scaling:
    """The scalers of one model.

    Parameters
    ----------
    config
        Which kind of scaler the features and the targets take.

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
            for start in range(0, len(rows), ROWS_AT_ONCE):
                self._scalers["features"].partial_fit(windows.matrix[rows[start : start + ROWS_AT_ONCE]])
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
        room = np.empty(matrix.size + ALIGNMENT // 4, dtype=np.float32)
        skip = -room.ctypes.data % ALIGNMENT // 4
        scaled = room[skip : skip + matrix.size].reshape(matrix.shape)
        for start in range(0, len(matrix), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scaled[part] = scaler.transform(matrix[part])
        return scaled

    def targets(self, y: Floats) -> npt.NDArray[np.float32]:
        """Scale targets, shape (n, horizons); NaN stays NaN."""
        return np.asarray(self._fitted("targets").transform(y), dtype=np.float32)

    def unscaled_targets(self, scaled: npt.ArrayLike) -> Floats:
        """Turn what the network answers, shape (n, horizons), back into targets, in float64."""
        return np.asarray(self._fitted("targets").inverse_transform(np.asarray(scaled, dtype=np.float64)))

    def _fitted(self, role: str) -> Any:
        if self.fitted_to is None:
            raise NotFittedError(f"the scaler of the {role} is not fitted yet; call fit(windows, train) first")
        return self._scalers[role]

    def to_dict(self) -> dict[str, Any]:
        """Return all that was learnt, in JSON's types; floats survive to the last bit."""
        return {
            "fitted_from": self.fitted_from,
            "fitted_to": self.fitted_to,
            "labels_to": self.labels_to,
            "scalers": {
                role: {
                    "kind": kind,
                    "learnt": {name: getattr(self._fitted(role), name).tolist() for name in _LEARNT[kind]},
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
            If what was saved is of another kind than the configuration says, or incomplete.
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
                learnt = {name: np.asarray(entry["learnt"][name], dtype=np.float64) for name in _LEARNT[kind]}
                if len({values.shape for values in learnt.values()}) != 1:
                    raise ValueError(f"{role}: what was learnt differs in length")
                for name, values in learnt.items():
                    setattr(scaler, name, values)
                scaler.n_features_in_ = len(scaler.scale_)
            scaling.fitted_from, scaling.fitted_to = saved["fitted_from"], saved["fitted_to"]
            scaling.labels_to = saved["labels_to"]
        except (KeyError, TypeError, ValueError) as error:
            raise IncompatibleModelError(
                f"the scalers of the bundle cannot be read: {error!r}; train it again"
            ) from error
        return scaling
