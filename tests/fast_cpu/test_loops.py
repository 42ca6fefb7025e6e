"""No convolution is left in a loop, whoever makes the loop."""

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from afslvm import fast_cpu
from afslvm.objectives import fivo
from afslvm.objectives.objective import Carried, ObjectiveSettings, make_loss
from afslvm.training import distributed, program
from afslvm.training.optimizer import make_optimizers
from afslvm.training.state import create_state
from tests import constructors
from tests.training.test_step import experiment


def primitives_in_loops(jaxpr, inside=False):
  """Returns the names of all operations in loops of a traced function."""
  found = set()
  for equation in jaxpr.eqns:
    found |= {equation.primitive.name} if inside else set()
    within = inside or equation.primitive.name in ('scan', 'while')
    for value in equation.params.values():
      if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
        found |= primitives_in_loops(getattr(value, 'jaxpr', value), within)
  return found


@pytest.fixture(scope='module')
def given():
  """A model that decodes frames step by step, its variables, and data."""
  model = constructors.svg('vgg', constructors.avf(), skips='last')
  x = constructors.data(model, batch=2, steps=4)
  return model, constructors.randomized(model, x), x


def in_training(model, variables, x):
  loss = make_loss(ObjectiveSettings(), model, 'none')
  batch = {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}
  gradient = jax.value_and_grad(loss, has_aux=True)
  return gradient(variables['params'], Carried({}), batch, jax.random.key(0), 0)


def in_generation(model, variables, x):
  rngs = {'sample': jax.random.key(0)}
  return model.apply(variables, x, 3, method='generate', rngs=rngs)


def in_a_particle_filter(model, variables, x):
  mask = jnp.ones(x.shape[:2], bool)
  return fivo.ParticleFilter(model, 2)(variables, x, mask, jax.random.key(0)).bound


@pytest.mark.parametrize('function', [in_training, in_generation, in_a_particle_filter])
def test_steps_of_a_model(function, given):
  model, variables, x = given
  for form, expected in (('products', False), ('plain', True)):
    with fast_cpu.choose(form):
      jaxpr = jax.make_jaxpr(lambda variables, x: function(model, variables, x))(variables, x)
    names = primitives_in_loops(jaxpr.jaxpr)
    assert 'dot_general' in names
    assert ('conv_general_dilated' in names) == expected


@pytest.mark.parametrize(('form', 'expected'), [('auto', False), ('plain', True)])
def test_parts_of_a_batch_as_the_config_says(form, expected):
  model = constructors.flows(1, constructors.conv(normalization='group'))
  x = constructors.data(model, batch=2, steps=5)
  made = experiment(x[None], model, accumulate=2, convolutions=form)
  mesh = distributed.make_mesh(jax.devices()[:1])
  batch = {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}
  adam, _ = make_optimizers(made.optimizer, 2)
  state = jax.eval_shape(lambda x: create_state(model, adam, x, seed=0, use_ema=True), x)
  jaxpr = jax.make_jaxpr(program.compiled_step(made, mesh))(state, batch)
  assert ('conv_general_dilated' in primitives_in_loops(jaxpr.jaxpr)) == expected
