"""The benchmark binary, and what it is made of."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import fast_cpu
from afslvm.performance import benchmark, slowest
from tests import constructors
from tests.training.test_step import experiment


def test_exponents():
  assert benchmark.exponent([1, 2, 4], [3.0, 6.0, 12.0]) == pytest.approx(1.0)
  assert benchmark.exponent([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2.0)


def test_the_slowest_operation_is_named_with_its_place():
  def work(a):
    with jax.named_scope('outer'):
      return jax.lax.fori_loop(0, 3, lambda _, b: jnp.tanh(a @ b), a)

  a = jnp.ones((600, 600))
  compiled = jax.jit(work).lower(a).compile()
  found = slowest.operations(compiled, lambda: [compiled(a) for _ in range(3)])
  assert 'outer' in found[0].place
  assert found[0].seconds > 0
  assert found[0].share <= slowest.share_of_products(found) < 1
  assert sum(operation.share for operation in found) <= 1 + 1e-6
  assert not [o for o in found if o.name.startswith('while')]
  assert 'while/body' in found[0].place
  assert [o.seconds for o in found] == sorted((o.seconds for o in found), reverse=True)


def test_copies_for_products_count_with_them():
  def operation(name, place, share):
    return slowest.Operation(name, place, 1.0, share)

  found = [
    operation('ynn_fusion', 'jit(f)/conv/conv_general_dilated', 0.4),
    operation('dot.1', '', 0.2),
    operation('concatenate', f'jit(f)/conv/{fast_cpu.SCOPE}/while/body/concatenate', 0.1),
    operation('tanh', 'jit(f)/tanh', 0.3),
  ]
  assert slowest.share_of_products(found) == pytest.approx(0.7)


@pytest.mark.slow
def test_costs_of_a_config(launch):
  done = launch(
    'benchmark',
    *('--config=configs/smoke.py', '--seconds=0.1', '--slowest=2', '--json'),
    '--sweep=train.batch_size=2,4',
  )
  assert done.returncode == 0, done.stderr
  report = json.loads(done.stdout)
  assert set(report['measurements']) == {'', 'train.batch_size=2', 'train.batch_size=4'}
  two, four = (report['measurements'][f'train.batch_size={n}'] for n in (2, 4))
  assert (two['sequences'], four['sequences']) == (2, 4)
  assert four['flops'] == pytest.approx(2 * two['flops'], rel=1e-6)
  assert four['flops'] == pytest.approx(four['flops_xla'], rel=0.3)
  for cost in report['measurements'].values():
    assert 0 < cost['utilisation'] < 1
    assert cost['compile_seconds'] > 0
    assert cost['program_megabytes'] > 0
    low, high = cost['step_seconds_range']
    assert low <= cost['step_seconds'] <= high
  assert len(report['slowest']) == 2
  assert 0 < report['share_of_products'] < 1
  assert report['growth']['train.batch_size'] is not None


@pytest.mark.parametrize(
  ('sweep', 'words'),
  [
    ('data.lenght=7', 'did you mean "length"'),
    ('data.length', 'is not of the form section.key=VALUE,VALUE'),
    ('train.batch_size=2,x', 'must be of type int'),
    ('train.batch_size=2,0', 'train.batch_size'),
  ],
)
def test_mistakes_end_in_one_line(sweep, words, launch):
  done = launch('benchmark', '--config=configs/smoke.py', f'--sweep={sweep}')
  assert done.returncode == 2
  assert words in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1


def test_a_plain_scan_computes_the_same():
  model = constructors.srnn()
  x = constructors.data(model, steps=3)
  given = constructors.randomized(model, x)
  given = {**given, **constructors.given_noise(model, jnp.array([0.4, -1.1]))}
  expected = constructors.apply(model, given, x).elbo
  found = constructors.apply(benchmark.plain_scan(model), given, x).elbo
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_decoder_takes_as_many_operations_at_once_as_step_by_step():
  x = np.zeros((2, 3, 5, 3), np.float32)
  given = experiment(x, model=constructors.srnn(), batch_size=3)
  at_once, in_steps = (benchmark.decoder_pass(given, 0.01, at_once=way) for way in (True, False))
  assert at_once[1] == in_steps[1] > 0
  assert min(at_once[0], in_steps[0]) > 0
