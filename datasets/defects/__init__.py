"""Where local anomalies come from beside the release's synthesis: confirmed defects, a function of one's own."""
