//! Record batches in the Kafka v2 format: parse, validate, iterate, build, compress within bounds.
