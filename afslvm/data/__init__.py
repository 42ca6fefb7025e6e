"""Data sets as TFDS builders, and one Grain pipeline from records to batches.

`base.SequenceBuilder` is what a data set implements, `prepare` writes, verifies and opens it, and
`pipeline` makes batches {'x': [B, T, *event], 'mask': [B, T]}. TensorFlow is never imported.
"""
