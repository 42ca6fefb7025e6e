"""Models of KTH actions, 64 x 64, small enough for two cores, by number of transforms.

The flows see frames in 4 x 4 patches and, since most of a frame is a background that stays, their
heads see the last frames directly (`skip`), with a linear shift. The rest is as in `small_flows`
and `small_slvm`.
"""

from afslvm.configs import common, small_flows, small_slvm

WIDTHS = (16, 32, 64, 64)


def get_config(num_flows: int, latent: bool):
  data, train = {**common.KTH, 'persons': 'svg'}, {'num_steps': 800, 'batch_size': 8}
  if latent:
    config = small_slvm.get_config(
      num_flows, data, train, widths=WIDTHS, latent_shape=32, hidden=128
    )
  else:
    config = small_flows.get_config(num_flows, data, train)
  model = config.model
  while 'conditioner' in model:
    model.shift_activation = 'linear'
    model.conditioner.patch, model.conditioner.skip = 4, True
    model = model.base
  return config
