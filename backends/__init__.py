"""The one seam to models, and what stands behind it."""
