"""Streams of random numbers are distinct, whatever is folded into them."""

import jax

from afslvm.training import randomness


def test_no_two_purposes_or_seeds_share_a_key():
  keys = set()
  for seed in range(4):
    for purpose in randomness.STREAMS:
      key = randomness.stream(seed, purpose)
      keys.add(tuple(jax.random.key_data(key).tolist()))
      for step in range(5):
        keys.add(tuple(jax.random.key_data(jax.random.fold_in(key, step)).tolist()))
      keys.add(tuple(jax.random.key_data(jax.random.key(seed)).tolist()))
  assert len(keys) == 4 * len(randomness.STREAMS) * 6 + 4


def test_a_stream_is_a_function_of_its_seed():
  one, again = (randomness.stream(3, 'training') for _ in range(2))
  assert jax.random.key_data(one).tolist() == jax.random.key_data(again).tolist()
