"""The report of an evaluation: summary, plot and HTML page."""
