"""Export requests: request, decision, transfer and final recipient, joined by the id of the request."""
