"""rangefinder: learning-rate range tests, LR ranges and fair training comparisons."""

__version__ = "0.1.0"
