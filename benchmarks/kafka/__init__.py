"""The pipeline on Apache Kafka and a store of its own process: a real broker, real processes, one machine."""
