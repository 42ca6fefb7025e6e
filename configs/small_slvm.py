"""SLVM and SLVM under temporal flows, small enough for two cores, by number of transforms.

Against the paper's (Appendix B): narrower networks, a smaller latent variable, a flow at half the
resolution, a higher learning rate with warm-up and cosine decay, crops of 16 frames whatever the
number of flows, and a divergence whose weight rises from 0.01 over the first three tenths of
training, without which z is not used. As in the paper SLVM has two LSTM layers in prior and
posterior, and one under flows.
"""

from afslvm.configs import common, small_flows


def get_config(
  num_flows: int,
  data: dict,
  train: dict,
  widths: tuple[int, ...] = (16, 32),
  latent_shape: int = 16,
  hidden: int = 64,
  transform: str = 'affine',
):
  layers = 1 if num_flows else 2
  base = common.slvm(
    latent_shape,
    encoder={'widths': widths, 'features': hidden, 'input_bound': 10.0 if num_flows else 0.0},
    decoder={'widths': widths[::-1]},
    prior={'features': hidden, 'hidden': hidden, 'layers': layers},
    inference={'hidden': hidden, 'layers': layers},
    likelihood={'mean_activation': 'linear' if num_flows else 'sigmoid'},
  )
  config = common.experiment(
    data={'length': small_flows.LENGTH, **data},
    model=common.temporal_flows(
      base, small_flows.CONDITIONER, small_flows.flows(num_flows, transform)
    ),
    objective={'kl_initial_weight': 0.01},
    optimizer={'learning_rate': 3e-3, 'schedule': 'cosine'},
    train={'batch_size': 16, 'log_every': 25, 'eval_every': 250, **train},
  )
  # They follow --config.train.num_steps.
  num_steps = config.train.get_ref('num_steps')
  config.objective.kl_warmup_steps = num_steps * 3 // 10
  config.optimizer.warmup_steps = num_steps * 3 // 100
  return config
