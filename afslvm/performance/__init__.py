"""What a training step costs: floating-point operations, time, memory, and its slowest parts."""
