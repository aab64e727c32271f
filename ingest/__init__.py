"""Where events enter and leave: Kafka, HTTP, command line, replay."""
