"""What the project costs, measured: ratios from one run, not timed tests."""
