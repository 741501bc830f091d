"""Logs and metrics: imported by every room but domain, imports none of ours."""
