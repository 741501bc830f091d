"""Stock as files: what a shop has in a table comes in and goes out."""
