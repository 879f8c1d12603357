"""What a store is: its tables, what conforms to them, how it lies on disk, how a job commits."""
