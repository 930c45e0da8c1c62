//! The sequencer and the views over the journal: partitions, queues, links, routes, tables.
