"""Convolutions on frames in forms that are fast on CPU: the same sums in another order.

This is the door of the room. Networks ask `is_used` while they are traced, and call `convolve`,
`downsample` and `upsample` where it says so; elsewhere they use the plain operators. Whoever traces
the body of a loop does it inside `in_loop`, and `choose` says which forms are wanted.
"""

from afslvm.fast_cpu.blocks import downsample, upsample
from afslvm.fast_cpu.choice import CHOICES, choose, in_loop, is_used
from afslvm.fast_cpu.convolutions import convolve
from afslvm.fast_cpu.windows import SCOPE

__all__ = [
  'CHOICES',
  'SCOPE',
  'choose',
  'convolve',
  'downsample',
  'in_loop',
  'is_used',
  'upsample',
]
