"""Numbers with a contract: what was scored, in which units, how, and against which references."""
