"""A key for each purpose, so that no two of them draw the same numbers."""

import jax

STREAMS = ('initialisation', 'first batch', 'training', 'validation')


def stream(seed: int, purpose: str) -> jax.Array:
  """The key of one of `STREAMS`; fold a step or an index into it."""
  return jax.random.fold_in(jax.random.key(seed), STREAMS.index(purpose))
