"""Labels from the request to the database: nothing that was paid for is lost."""
