"""What sources say becomes ours: webhooks, polls, and what of theirs could not be used."""
