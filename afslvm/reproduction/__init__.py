"""The AF paper's tables and figures: what to run, running it, and writing down what came out."""
