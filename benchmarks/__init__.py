"""Speed and cost as ratios within one run, each beside the bar it is held to: ``python -m benchmarks NAME``."""
