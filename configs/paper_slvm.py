"""The AF paper's SLVM, alone and under temporal flows, at full size (Appendix B and its code).

256 latent variables; DCGAN encoder to 128 features and decoder of z_t alone; LSTMs of 256 units in
prior and posterior, two layers each in SLVM and one each under flows; a mean through a sigmoid on
the data and a linear one under flows; log-scales clipped to (-15, 5); Adam 1e-4, gradient norm
clipped at 1, no annealing of the divergence; crops of 13 frames, and of 16 for two flows.

Deviations: batch statistics are pooled over the frames of a sequence, not taken per time step; an
LSTM cell has one vector of biases, PyTorch's has two; no unused parameters; BatchNorm's gain begins
at 1, not at draws of N(1, 0.02²); the first FC layers draw with gain 1, not √2; on BAIR the paper's
code trains SLVM on crops of 10 frames, the paper says 13; its 2-AF on Moving MNIST crops 15.
"""

from afslvm.configs import common, paper_flows

XAVIER = {'initialization': 'xavier'}


def get_config(num_flows: int, boundary: str, data: dict, train: dict):
  layers = 1 if num_flows else 2
  base = common.slvm(
    256,
    encoder=XAVIER,
    decoder=XAVIER,
    prior={**XAVIER, 'layers': layers},
    inference={**XAVIER, 'layers': layers},
    likelihood={
      **XAVIER,
      'mean_activation': 'linear' if num_flows else 'sigmoid',
      'log_scale_bound': 'clip',
      'log_scale_low': -15.0,
      'log_scale_high': 5.0,
    },
  )
  config = paper_flows.get_config(max(num_flows, 1), boundary, data, train)
  flow = {'boundary': boundary, 'shift_activation': 'linear', 'log_scale_bound': 'paper'}
  config.model = common.temporal_flows(base, paper_flows.CONDITIONER, [flow] * num_flows)
  return config
