"""Reports of an evaluation: summary, plot and page."""
