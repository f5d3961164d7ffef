"""Confirmed defects, which take part in the synthesis of local anomalies."""
