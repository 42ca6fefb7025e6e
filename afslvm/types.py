"""Array and shape aliases used in signatures.

Shapes are written in docstrings as [B, T, *event]: B sequences, T time steps, and the shape of one
observation, (H, W, C) for video and (D,) for vectors.
"""

from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
EventShape: TypeAlias = tuple[int, ...]
PyTree: TypeAlias = Any
ScalarOrArray: TypeAlias = float | Array
Temperature: TypeAlias = ScalarOrArray | tuple[ScalarOrArray, ScalarOrArray]
