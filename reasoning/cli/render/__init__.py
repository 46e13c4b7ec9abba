"""Terminal and HTML output of the commands."""
