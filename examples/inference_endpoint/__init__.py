"""An inference endpoint of the ordinary kind, with a small real model. It knows nothing of AuditSpan."""
