"""What this package costs in time and memory, against what a reader would write by hand or install instead."""
