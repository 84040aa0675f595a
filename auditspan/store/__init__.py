"""The sealed event stream in ClickHouse, embedded or served."""
