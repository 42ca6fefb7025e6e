"""Pure, parameter-free invertible transforms: `forward` (y -> x) and `inverse` (x -> y).

Each direction returns `(value, log_det of itself)`, with log_det summed over the event axes. Where
the parameters come from is the business of `flows/`.
"""
