"""The parts of a sweep: what it consists of, who does which run, what came of it."""
